//! Legacy VTK polydata, after "VTK File Formats" (Kitware) and the behaviour of VTK's own writer:
//! versions 1 to 4 store cells as `count i j k …`, versions 5.0 and 5.1 as OFFSETS and CONNECTIVITY.

use super::scan::{Scanner, parse_word, quoted};
use super::{Failure, Location, RawMesh, ReadReason, push};

/// Scalar types of the format; binary data are big-endian.
#[derive(Clone, Copy, PartialEq)]
enum Type {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
}

impl Type {
    fn parse(word: &[u8]) -> Option<Type> {
        // (No name is longer.)
        Some(match word[..word.len().min(24)].to_ascii_lowercase().as_slice() {
            b"char" | b"signed_char" | b"vtktypeint8" => Type::I8,
            b"unsigned_char" | b"vtktypeuint8" => Type::U8,
            b"short" | b"vtktypeint16" => Type::I16,
            b"unsigned_short" | b"vtktypeuint16" => Type::U16,
            // VTK writes vtkIdType as 32-bit integers.
            b"int" | b"vtkidtype" | b"vtktypeint32" => Type::I32,
            b"unsigned_int" | b"vtktypeuint32" => Type::U32,
            b"long" | b"long_long" | b"vtktypeint64" => Type::I64,
            b"unsigned_long" | b"unsigned_long_long" | b"vtktypeuint64" => Type::U64,
            b"float" => Type::F32,
            b"double" => Type::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Type::I8 | Type::U8 => 1,
            Type::I16 | Type::U16 => 2,
            Type::I32 | Type::U32 | Type::F32 => 4,
            Type::I64 | Type::U64 | Type::F64 => 8,
        }
    }

    /// One big-endian number; `raw` has `size()` bytes.
    fn decode(self, raw: &[u8]) -> Number {
        let mut wide = [0_u8; 8];
        wide[8 - raw.len()..].copy_from_slice(raw);
        let bits = u64::from_be_bytes(wide);
        match self {
            Type::I8 => Number::Int(i64::from(bits as i8)),
            Type::I16 => Number::Int(i64::from(bits as i16)),
            Type::I32 => Number::Int(i64::from(bits as i32)),
            Type::I64 => Number::Int(bits as i64),
            // An unsigned index beyond i64 is out of range of any file; -1 is refused the same.
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                Number::Int(i64::try_from(bits).unwrap_or(-1))
            }
            Type::F32 => Number::Real(f64::from(f32::from_bits(bits as u32))),
            Type::F64 => Number::Real(f64::from_bits(bits)),
        }
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Real(f64),
}

#[derive(Clone, Copy)]
enum Section {
    Vertices,
    Lines,
    Polygons,
    Strips,
}

pub(super) fn read(bytes: &[u8]) -> Result<RawMesh, Failure> {
    let mut scan = Scanner::new(bytes);
    let mut mesh = RawMesh::default();
    header(&mut scan, &mut mesh)?;
    let mut points_seen = false;
    while let Some((word, location)) = scan.word() {
        // (No keyword is longer.)
        let keyword = word[..word.len().min(20)].to_ascii_uppercase();
        let section = match keyword.as_slice() {
            b"POINTS" => {
                if points_seen {
                    return Err(Failure::syntax(location, "one POINTS section", "a second one"));
                }
                points_seen = true;
                points(&mut scan, &mut mesh)?;
                continue;
            }
            b"METADATA" => {
                skip_metadata(&mut scan);
                continue;
            }
            b"FIELD" => {
                skip_field(&mut scan)?;
                push_once(&mut mesh.skipped, "FIELD");
                continue;
            }
            // VTK puts attributes after the geometry; nothing that is needed follows.
            b"POINT_DATA" | b"CELL_DATA" => {
                push_once(&mut mesh.skipped, "point and cell data");
                break;
            }
            b"VERTICES" => Section::Vertices,
            b"LINES" => Section::Lines,
            b"POLYGONS" => Section::Polygons,
            b"TRIANGLE_STRIPS" => Section::Strips,
            _ => {
                let expected = "a section of a polydata file (POINTS, VERTICES, LINES, POLYGONS, \
                                TRIANGLE_STRIPS, FIELD, METADATA, POINT_DATA or CELL_DATA)";
                return Err(Failure::syntax(location, expected, quoted(word)));
            }
        };
        if !points_seen {
            return Err(Failure::syntax(location, "POINTS before any cells", quoted(word)));
        }
        cells(&mut scan, &mut mesh, section, &String::from_utf8_lossy(&keyword))?;
    }
    if !points_seen {
        return Err(Failure::syntax(scan.location(), "a POINTS section", "the end of the file"));
    }
    Ok(mesh)
}

fn push_once(list: &mut Vec<String>, what: &str) {
    if !list.iter().any(|have| have == what) {
        list.push(what.into());
    }
}

fn header(scan: &mut Scanner, mesh: &mut RawMesh) -> Result<(), Failure> {
    let first = scan.next_line().unwrap_or_default();
    let version = first.strip_prefix(b"# vtk DataFile Version").map(<[u8]>::trim_ascii);
    if version.and_then(parse_word::<f64>).is_none() {
        let expected = "\"# vtk DataFile Version x.y\"";
        return Err(Failure::syntax(Location::Line(1), expected, quoted(first)));
    }
    let title = scan.next_line().unwrap_or_default();
    mesh.title = String::from_utf8_lossy(&title[..title.len().min(256)]).trim().into();
    let (word, location) = scan.word().unwrap_or((b"", scan.location()));
    mesh.binary = match word[..word.len().min(20)].to_ascii_uppercase().as_slice() {
        b"ASCII" => false,
        b"BINARY" => true,
        _ => return Err(Failure::syntax(location, "ASCII or BINARY", quoted(word))),
    };
    scan.finish_line("ASCII or BINARY")?;
    // Field data may stand before the dataset keyword.
    while scan.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"FIELD")) {
        scan.word();
        scan.binary = mesh.binary;
        skip_field(scan)?;
    }
    let (word, location) = scan.word().unwrap_or((b"", scan.location()));
    if !word.eq_ignore_ascii_case(b"DATASET") {
        return Err(Failure::syntax(location, "DATASET POLYDATA", quoted(word)));
    }
    let (kind, location) = scan.word().unwrap_or((b"", scan.location()));
    if !kind.eq_ignore_ascii_case(b"POLYDATA") {
        let what = format!("dataset {} (only POLYDATA)", quoted(kind));
        return Err(Failure::new(location, ReadReason::Unsupported(what)));
    }
    scan.finish_line("DATASET")?;
    scan.binary = mesh.binary;
    Ok(())
}

/// A type name at the end of a section's line.
fn type_word(scan: &mut Scanner, what: &str) -> Result<Type, Failure> {
    let (word, location) = scan.word().unwrap_or((b"", scan.location()));
    Type::parse(word).ok_or_else(|| {
        Failure::syntax(location, format!("a VTK data type for {what}"), quoted(word))
    })
}

fn count(scan: &mut Scanner, what: &str) -> Result<u64, Failure> {
    Ok(scan.parse(|| format!("the {what}, a non-negative integer"))?.0)
}

/// Passes `count` numbers to `take` with their places.
fn numbers(
    scan: &mut Scanner,
    kind: Type,
    count: u64,
    what: &str,
    mut take: impl FnMut(Number, Location) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let name = || format!("{what} ({count} numbers)");
    if scan.binary {
        let size = kind.size();
        let length = scan.require(count, size as u64, name)?;
        let Location::Byte(start) = scan.location() else {
            unreachable!("binary locations are bytes")
        };
        for (i, raw) in scan.raw(length).chunks_exact(size).enumerate() {
            take(kind.decode(raw), Location::Byte(start + i * size))?;
        }
        return Ok(());
    }
    // A digit and a separator each, the last separator aside.
    scan.require(count.saturating_mul(2).saturating_sub(1), 1, name)?;
    for i in 0..count {
        let expected = || format!("number {i} of {count} of {what}");
        let (number, location) = if matches!(kind, Type::F32 | Type::F64) {
            let (x, location) = scan.parse(expected)?;
            (Number::Real(x), location)
        } else {
            let (x, location) = scan.parse(expected)?;
            (Number::Int(x), location)
        };
        take(number, location)?;
    }
    Ok(())
}

fn points(scan: &mut Scanner, mesh: &mut RawMesh) -> Result<(), Failure> {
    let n = count(scan, "number of points")?;
    let kind = type_word(scan, "POINTS")?;
    scan.finish_line("POINTS")?;
    mesh.dim = 3;
    numbers(scan, kind, n.saturating_mul(3), "POINTS", |number, location| {
        let value = match number {
            Number::Real(x) => x,
            Number::Int(i) => i as f64,
        };
        mesh.push_coordinate(value, location)
    })
}

/// Integers with their places.
fn integers(
    scan: &mut Scanner,
    kind: Type,
    count: u64,
    what: &str,
) -> Result<Vec<(i64, Location)>, Failure> {
    if matches!(kind, Type::F32 | Type::F64) {
        return Err(Failure::syntax(scan.location(), format!("integers for {what}"), "reals"));
    }
    let mut all = Vec::new();
    numbers(scan, kind, count, what, |number, location| match number {
        Number::Int(i) => push(&mut all, (i, location)),
        Number::Real(_) => Ok(()),
    })?;
    Ok(all)
}

/// One cells section, in the old layout (`count i j k …`) or the one of version 5
/// (OFFSETS and CONNECTIVITY).
fn cells(
    scan: &mut Scanner,
    mesh: &mut RawMesh,
    section: Section,
    name: &str,
) -> Result<(), Failure> {
    let first = count(scan, &format!("number of cells of {name}"))?;
    let second = count(scan, &format!("size of {name}"))?;
    scan.finish_line(name)?;
    let vertices = mesh.vertex_count();
    let mut corners = Vec::new();
    let mut cell = 0;
    let corner = |corners: &mut Vec<usize>, cell: usize, (index, location): (i64, Location)| {
        match usize::try_from(index).ok().filter(|&i| i < vertices) {
            Some(i) => push(corners, i),
            None => {
                let reason = ReadReason::Index { cell, index, vertices, base: "from 0" };
                Err(Failure::new(location, reason))
            }
        }
    };
    let mut push_cell = |corners: &[usize]| match section {
        Section::Vertices => {
            mesh.single_vertex_cells += corners.len();
            Ok(())
        }
        Section::Lines => mesh.push_polyline(corners),
        Section::Polygons => mesh.push_polygon(corners),
        Section::Strips => mesh.push_strip(corners),
    };
    if scan.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"OFFSETS")) {
        let offsets = array_of(scan, b"OFFSETS", first, name)?;
        let connectivity = array_of(scan, b"CONNECTIVITY", second, name)?;
        // Offsets begin with 0 and end with the length of the connectivity.
        let mut previous = 0;
        for (i, &(offset, location)) in offsets.iter().enumerate() {
            let fits = usize::try_from(offset)
                .ok()
                .filter(|&o| o >= previous && o <= connectivity.len() && (i > 0 || o == 0));
            let Some(offset) = fits else {
                let expected = format!(
                    "offset {i} of {name} between {previous} and {}",
                    if i == 0 { 0 } else { connectivity.len() }
                );
                return Err(Failure::syntax(location, expected, offset.to_string()));
            };
            if i > 0 {
                corners.clear();
                for &index in &connectivity[previous..offset] {
                    corner(&mut corners, cell, index)?;
                }
                push_cell(&corners)?;
                cell += 1;
            }
            previous = offset;
        }
        if previous != connectivity.len() {
            let what = format!("entries of CONNECTIVITY that the OFFSETS of {name} reach");
            let (expected, got) = (connectivity.len() as u64, previous as u64);
            return Err(Failure::new(
                scan.location(),
                ReadReason::Mismatch { what, expected, got },
            ));
        }
        return Ok(());
    }
    let start = scan.location();
    let all = integers(scan, Type::I32, second, name)?;
    let mut rest = &all[..];
    while let Some((&(length, location), tail)) = rest.split_first() {
        let Some(length) = usize::try_from(length).ok().filter(|&l| l <= tail.len()) else {
            let expected =
                format!("the corner count of cell {cell} of {name}, at most {}", tail.len());
            return Err(Failure::syntax(location, expected, length.to_string()));
        };
        corners.clear();
        for &index in &tail[..length] {
            corner(&mut corners, cell, index)?;
        }
        push_cell(&corners)?;
        cell += 1;
        rest = &tail[length..];
    }
    if cell as u64 != first {
        let what = format!("cells in the {second} numbers of {name}");
        let reason = ReadReason::Mismatch { what, expected: first, got: cell as u64 };
        return Err(Failure::new(start, reason));
    }
    Ok(())
}

/// `OFFSETS type` or `CONNECTIVITY type` and its numbers.
fn array_of(
    scan: &mut Scanner,
    keyword: &[u8],
    count: u64,
    name: &str,
) -> Result<Vec<(i64, Location)>, Failure> {
    let (word, location) = scan.word().unwrap_or((b"", scan.location()));
    let what = format!("{} of {name}", String::from_utf8_lossy(keyword));
    if !word.eq_ignore_ascii_case(keyword) {
        return Err(Failure::syntax(location, what, quoted(word)));
    }
    let kind = type_word(scan, &what)?;
    scan.finish_line(&what)?;
    integers(scan, kind, count, &what)
}

/// A METADATA block ends with an empty line.
fn skip_metadata(scan: &mut Scanner) {
    scan.end_line();
    while scan.next_line().is_some_and(|line| !line.trim_ascii().is_empty()) {}
}

/// `FIELD name count` and that many arrays `name components tuples type`.
fn skip_field(scan: &mut Scanner) -> Result<(), Failure> {
    scan.word();
    let arrays = count(scan, "number of arrays of FIELD")?;
    scan.end_line();
    for _ in 0..arrays {
        let (mut name, location) = scan.word().ok_or_else(|| {
            Failure::syntax(scan.location(), "a FIELD array", "the end of the file")
        })?;
        if name.eq_ignore_ascii_case(b"METADATA") {
            skip_metadata(scan);
            name = scan.word().map(|(name, _)| name).unwrap_or_default();
        }
        // VTK writes a lone NULL_ARRAY for an empty slot.
        if name == b"NULL_ARRAY" {
            continue;
        }
        let components = count(scan, "components of a FIELD array")?;
        let tuples = count(scan, "tuples of a FIELD array")?;
        let (kind, _) = scan.word().unwrap_or((b"", location));
        scan.end_line();
        let total = components.saturating_mul(tuples);
        let what = format!("FIELD array {}", quoted(name));
        if kind.eq_ignore_ascii_case(b"string") {
            skip_strings(scan, total, &what)?;
        } else if kind.eq_ignore_ascii_case(b"bit") && scan.binary {
            let length = scan.require(total.div_ceil(8), 1, || what.clone())?;
            scan.raw(length);
        } else if let Some(kind) = Type::parse(kind) {
            if scan.binary {
                let length = scan.require(total, kind.size() as u64, || what.clone())?;
                scan.raw(length);
            } else {
                for _ in 0..total {
                    scan.parse::<f64>(|| format!("a number of {what}"))?;
                }
            }
        } else {
            return Err(Failure::syntax(
                location,
                format!("a VTK data type for {what}"),
                quoted(kind),
            ));
        }
    }
    // Metadata of the last array.
    if scan.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"METADATA")) {
        scan.word();
        skip_metadata(scan);
    }
    Ok(())
}

/// Strings: one per line in ASCII; in binary a length whose two top bits say how long it is
/// itself, then the bytes.
fn skip_strings(scan: &mut Scanner, count: u64, what: &str) -> Result<(), Failure> {
    for _ in 0..count {
        if !scan.binary {
            if scan.next_line().is_none() {
                return Err(Failure::syntax(scan.location(), what, "the end of the file"));
            }
            continue;
        }
        scan.require(1, 1, || what.into())?;
        let first = scan.raw(1)[0];
        let more = match first >> 6 {
            3 => 0,
            2 => 1,
            1 => 3,
            _ => 7,
        };
        let more = scan.require(more, 1, || what.into())?;
        let length = scan
            .raw(more)
            .iter()
            .fold(u64::from(first & 0x3f), |length, &byte| length << 8 | u64::from(byte));
        let length = scan.require(length, 1, || what.into())?;
        scan.raw(length);
    }
    Ok(())
}
