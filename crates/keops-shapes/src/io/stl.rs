//! STL, ASCII and binary. Facets repeat their corners; corners with equal coordinates are merged.

use std::collections::HashMap;

use keops_core::memory;

use super::scan::{Scanner, quoted};
use super::{Failure, Location, RawMesh, ReadReason, SHAPE, push};

const HEADER: usize = 80;
const FACET: usize = 50;

/// Binary files are told by their size: 80 bytes, a count, 50 bytes per facet. Their header may
/// begin with "solid" as ASCII files do.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    announced(bytes).is_some_and(|n| bytes.len() as u64 == (HEADER + 4) as u64 + n * FACET as u64)
}

fn announced(bytes: &[u8]) -> Option<u64> {
    let count = bytes.get(HEADER..HEADER + 4)?.try_into().ok()?;
    Some(u64::from(u32::from_le_bytes(count)))
}

/// Does the file begin with the word "solid"? Some writers use capitals.
pub(super) fn is_ascii(bytes: &[u8]) -> bool {
    let first = bytes.trim_ascii_start().get(..5);
    first.is_some_and(|word| word.eq_ignore_ascii_case(b"solid"))
}

pub(super) fn read(bytes: &[u8]) -> Result<RawMesh, Failure> {
    if is_ascii(bytes) && !is_binary(bytes) { read_ascii(bytes) } else { read_binary(bytes) }
}

/// Merges corners by their coordinates.
#[derive(Default)]
struct Corners {
    known: HashMap<[u64; 3], usize>,
    merged: usize,
}

impl Corners {
    fn add(
        &mut self,
        mesh: &mut RawMesh,
        x: [f64; 3],
        location: Location,
    ) -> Result<usize, Failure> {
        // Adding 0 turns −0 into 0, so that both have the same bits.
        let key = x.map(|x| (x + 0.0).to_bits());
        if let Some(&index) = self.known.get(&key) {
            self.merged += 1;
            return Ok(index);
        }
        let index = mesh.vertex_count();
        for x in x {
            mesh.push_coordinate(x, location)?;
        }
        self.known
            .try_reserve(1)
            .map_err(|_| memory::refused::<([u64; 3], usize)>(2 * self.known.len(), SHAPE))?;
        self.known.insert(key, index);
        Ok(index)
    }
}

fn read_binary(bytes: &[u8]) -> Result<RawMesh, Failure> {
    let mut scan = Scanner::new(bytes);
    scan.binary = true;
    scan.require(1, HEADER as u64 + 4, || "the header of a binary STL file".into())?;
    let header = scan.raw(HEADER);
    let text = header.split(|&b| b == 0).next().unwrap_or_default();
    let mut mesh = RawMesh {
        dim: 3,
        binary: true,
        title: String::from_utf8_lossy(text).trim().into(),
        ..RawMesh::default()
    };
    let n = announced(bytes).unwrap_or(0);
    scan.raw(4);
    let length = scan.require(n, FACET as u64, || format!("{n} facets"))?;
    let mut corners = Corners::default();
    for (i, facet) in scan.raw(length).chunks_exact(FACET).enumerate() {
        let location = Location::Byte(HEADER + 4 + i * FACET);
        let real = |at: usize| {
            f64::from(f32::from_le_bytes([facet[at], facet[at + 1], facet[at + 2], facet[at + 3]]))
        };
        // 12 bytes of normal, then three corners.
        let mut triangle = [0; 3];
        for (k, corner) in triangle.iter_mut().enumerate() {
            let at = 12 + 12 * k;
            *corner = corners.add(&mut mesh, [real(at), real(at + 4), real(at + 8)], location)?;
        }
        push(&mut mesh.triangles, triangle)?;
    }
    if scan.left() > 0 {
        let what = format!("bytes after {n} facets");
        let reason = ReadReason::Mismatch { what, expected: 0, got: scan.left() as u64 };
        return Err(Failure::new(scan.location(), reason));
    }
    mesh.corners_merged = corners.merged;
    Ok(mesh)
}

fn read_ascii(bytes: &[u8]) -> Result<RawMesh, Failure> {
    let mut scan = Scanner::new(bytes);
    let mut mesh = RawMesh { dim: 3, ..RawMesh::default() };
    let mut corners = Corners::default();
    // The title is the rest of the first line.
    let (_, first) = scan.word().unwrap_or((b"", Location::Line(1)));
    let title = scan.next_line().unwrap_or_default();
    mesh.title = String::from_utf8_lossy(&title[..title.len().min(256)]).trim().into();
    let mut ended = false;
    while let Some((word, location)) = scan.word() {
        if word.eq_ignore_ascii_case(b"endsolid") {
            ended = true;
            scan.end_line();
        } else if word.eq_ignore_ascii_case(b"solid") && ended {
            // Several solids in one file make one shape.
            ended = false;
            scan.end_line();
        } else if word.eq_ignore_ascii_case(b"facet") && !ended {
            // The normal is not read: it follows from the corners, and some writers put NaN.
            scan.end_line();
            expect(&mut scan, &[b"outer", b"loop"])?;
            let mut triangle = [0; 3];
            for corner in &mut triangle {
                expect(&mut scan, &[b"vertex"])?;
                let mut x = [0.0; 3];
                let mut location = scan.location();
                for x in &mut x {
                    (*x, location) = scan.parse(|| "a coordinate of a vertex".into())?;
                }
                *corner = corners.add(&mut mesh, x, location)?;
            }
            expect(&mut scan, &[b"endloop", b"endfacet"])?;
            push(&mut mesh.triangles, triangle)?;
        } else {
            let expected = if ended { "solid or the end of the file" } else { "facet or endsolid" };
            return Err(Failure::syntax(location, expected, quoted(word)));
        }
    }
    if !ended {
        return Err(Failure::syntax(scan.location(), "endsolid", "the end of the file"));
    }
    if mesh.triangles.is_empty() {
        return Err(Failure::new(first, ReadReason::Empty("list of facets")));
    }
    mesh.corners_merged = corners.merged;
    Ok(mesh)
}

fn expect(scan: &mut Scanner, words: &[&[u8]]) -> Result<(), Failure> {
    for expected in words {
        let (word, location) = scan.word().unwrap_or((b"", scan.location()));
        if !word.eq_ignore_ascii_case(expected) {
            let expected = String::from_utf8_lossy(expected);
            return Err(Failure::syntax(location, expected, quoted(word)));
        }
    }
    Ok(())
}
