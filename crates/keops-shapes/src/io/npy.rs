//! Point clouds from NumPy arrays of shape (n, 2) or (n, 3), real or integer, either byte order,
//! either memory order (NumPy's `numpy.lib.format`, versions 1.0 to 3.0).
//!
//! Read here rather than through a crate because sizes must be checked against the file before
//! anything is allocated.

use super::scan::quoted;
use super::{Failure, Location, RawMesh, ReadReason, SHAPE};

pub(super) fn read(bytes: &[u8]) -> Result<RawMesh, Failure> {
    let truncated = |what: &str, needed: u64, left: usize| {
        let reason = ReadReason::Truncated { what: what.into(), needed, left };
        Failure::new(Location::Byte(bytes.len()), reason)
    };
    // Magic (6 bytes), version (2), length of the header (2 bytes in version 1, else 4), header.
    let (start, length) = match bytes.get(6).zip(bytes.get(8..12)) {
        Some((1, l)) => (10_usize, usize::from(u16::from_le_bytes([l[0], l[1]]))),
        Some((2 | 3, l)) => (12, u32::from_le_bytes([l[0], l[1], l[2], l[3]]) as usize),
        Some((version, _)) => {
            let what = format!("version {version} of the .npy format");
            return Err(Failure::new(Location::Byte(6), ReadReason::Unsupported(what)));
        }
        None => return Err(truncated("the .npy header", 12, bytes.len())),
    };
    let end = start.saturating_add(length);
    let Some(header) = bytes.get(start..end) else {
        return Err(truncated("the .npy header", length as u64, bytes.len() - start));
    };
    let location = Location::Byte(start);
    let wrong = |expected: &str, got: &[u8]| Failure::syntax(location, expected, quoted(got));
    let descr = value(header, b"descr").ok_or_else(|| wrong("'descr' in the header", header))?;
    let order = value(header, b"fortran_order")
        .ok_or_else(|| wrong("'fortran_order' in the header", header))?;
    let shape = value(header, b"shape").ok_or_else(|| wrong("'shape' in the header", header))?;

    let fortran = match order {
        b if b.starts_with(b"True") => true,
        b if b.starts_with(b"False") => false,
        _ => return Err(wrong("True or False for 'fortran_order'", order)),
    };
    let expected = "an array of shape (n, 2) or (n, 3)";
    let inner = shape.strip_prefix(b"(").and_then(|s| s.split(|&b| b == b')').next());
    let inner = inner.ok_or_else(|| wrong(expected, shape))?;
    let mut sizes = (inner.split(|&b| b == b',').map(<[u8]>::trim_ascii))
        .filter(|size| !size.is_empty())
        .map(super::scan::parse_word::<u64>);
    let (n, d) = match (sizes.next(), sizes.next(), sizes.next()) {
        (Some(Some(n)), Some(Some(d @ (2 | 3))), None) => (n, d as usize),
        _ => return Err(wrong(expected, shape)),
    };
    let code = descr.strip_prefix(b"'").and_then(|s| s.split(|&b| b == b'\'').next());
    let Some((big, decode, size)) = code.and_then(element) else {
        let what = format!("the .npy element type {}", quoted(code.unwrap_or(descr)));
        return Err(Failure::new(location, ReadReason::Unsupported(what)));
    };

    let data = &bytes[end..];
    let needed = n.saturating_mul((d * size) as u64);
    if needed > data.len() as u64 {
        return Err(truncated("the array", needed, data.len()));
    }
    if needed < data.len() as u64 {
        let (expected, got) = (needed, data.len() as u64);
        let reason = ReadReason::Mismatch { what: "bytes of the array".into(), expected, got };
        return Err(Failure::new(Location::Byte(end), reason));
    }
    let n = n as usize;
    let coordinates = keops_core::memory::room(n * d, SHAPE)?;
    let mut mesh = RawMesh { dim: d, binary: true, coordinates, ..RawMesh::default() };
    for i in 0..n {
        for k in 0..d {
            let at = size * if fortran { k * n + i } else { i * d + k };
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(&data[at..at + size]);
            if big {
                wide[..size].reverse();
            }
            mesh.push_coordinate(decode(u64::from_le_bytes(wide)), Location::Byte(end + at))?;
        }
    }
    Ok(mesh)
}

/// What stands after `'key':` in the header, which is a Python dictionary.
fn value<'a>(header: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let quoted = [b"'", key, b"'"].concat();
    let at = header.windows(quoted.len()).position(|w| w == quoted)?;
    header[at + quoted.len()..].trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start)
}

/// From the low bytes of a word to a number.
type Decode = fn(u64) -> f64;

/// Byte order, decoder and size in bytes of an element type such as `<f8`.
fn element(code: &[u8]) -> Option<(bool, Decode, usize)> {
    let (&order, kind) = code.split_first()?;
    let decode: (Decode, usize) = match kind {
        b"f8" => (f64::from_bits, 8),
        b"f4" => (|w| f64::from(f32::from_bits(w as u32)), 4),
        b"i8" => (|w| w as i64 as f64, 8),
        b"i4" => (|w| f64::from(w as i32), 4),
        b"i2" => (|w| f64::from(w as i16), 2),
        b"i1" => (|w| f64::from(w as i8), 1),
        b"u8" => (|w| w as f64, 8),
        b"u4" => (|w| f64::from(w as u32), 4),
        b"u2" => (|w| f64::from(w as u16), 2),
        b"u1" => (|w| f64::from(w as u8), 1),
        _ => return None,
    };
    match order {
        b'<' | b'|' => Some((false, decode.0, decode.1)),
        b'>' => Some((true, decode.0, decode.1)),
        _ => None,
    }
}
