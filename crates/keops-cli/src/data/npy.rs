//! NumPy's .npy (`numpy.lib.format`, versions 1.0 to 3.0), with half precision, which the crate
//! ndarray-npy has not.
//!
//! Little-endian f16, f32 and f64 are mapped: pages are read when they are needed, and nothing is
//! copied. Integers, booleans and big-endian numbers are converted.

use crate::failure::{About, Done, error};
use crate::memory;
use half::f16;
use half::slice::HalfBitsSliceExt;
use keops::data::{Buffer, HostView};
use memmap2::Mmap;
use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};
use std::fs::File;
use std::io::Write;
use std::path::Path;

#[derive(Clone, Copy, Debug)]
enum Kind {
    F16,
    F32,
    F64,
}

/// An array in a mapped file. Size, alignment and type were looked at when it was opened.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
    start: usize,
    kind: Kind,
    header: Header,
}

#[derive(Debug)]
pub enum Opened {
    Mapped(Mapped),
    Converted { values: Buffer, firm: bool },
}

#[derive(Debug)]
struct Header {
    /// As NumPy writes it: `<f4`.
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Mapped {
    pub fn view(&self) -> HostView<'_> {
        let bytes = &self.map[self.start..];
        match self.kind {
            Kind::F16 => {
                let bits: &[u16] = bytemuck::cast_slice(bytes);
                HostView::F16(self.header.shaped(bits.reinterpret_cast()))
            }
            Kind::F32 => HostView::F32(self.header.shaped(bytemuck::cast_slice(bytes))),
            Kind::F64 => HostView::F64(self.header.shaped(bytemuck::cast_slice(bytes))),
        }
    }
}

impl Header {
    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent))
    }
    fn shaped<'a, T>(&self, values: &'a [T]) -> ArrayViewD<'a, T> {
        let shape = IxDyn(&self.shape).set_f(self.fortran);
        match ArrayViewD::from_shape(shape, values) {
            Ok(view) => view,
            Err(_) => unreachable!("the size was compared with the file"),
        }
    }
}

pub fn open(path: &Path) -> Done<Opened> {
    let name = path.display();
    let file = File::open(path).about(&name)?;
    let size = file.metadata().about(&name)?;
    if !size.is_file() {
        return error(format!("{name}: is no file that can be mapped"));
    }
    // SAFETY: the map is only read. Another program that shortens the file while it is mapped ends
    // this one by a signal; that one must not do so is stated in the help of the commands.
    let map = unsafe { Mmap::map(&file) }.about(&name)?;
    let (header, start) = header(&map).about(&name)?;
    let code = header.descr.trim_start_matches(['<', '>', '|', '=']);
    let big = header.descr.starts_with('>');
    let Some(width) = width(code) else {
        return error(format!(
            "{name}: elements of type {:?}; expected f16, f32, f64, integers or booleans",
            header.descr
        ));
    };
    let data = &map[start..];
    let needed = header.elements().and_then(|n| n.checked_mul(width));
    if needed != Some(data.len()) {
        return error(format!(
            "{name}: its header says shape {:?} of {width} bytes each, but {} bytes follow: the file is \
             damaged",
            header.shape,
            data.len()
        ));
    }
    memory::check(&name.to_string(), data.len() as u64)?;
    let kind = match code {
        "f2" => Some(Kind::F16),
        "f4" => Some(Kind::F32),
        "f8" => Some(Kind::F64),
        _ => None,
    };
    let aligned = data.as_ptr().align_offset(width) == 0;
    if let (Some(kind), true, false) = (kind, aligned && cfg!(target_endian = "little"), big) {
        return Ok(Opened::Mapped(Mapped { map, start, kind, header }));
    }
    macro_rules! convert {
        ($from:ty, $to:ty, $buffer:ident) => {{
            let mut values: Vec<$to> = memory::room(data.len() / width)?;
            for bytes in data.chunks_exact(width) {
                let mut own = [0u8; size_of::<$from>()];
                own.copy_from_slice(bytes);
                if big {
                    own.reverse();
                }
                values.push(<$from>::from_le_bytes(own) as $to);
            }
            Buffer::$buffer(ArrayD::from_shape_vec(
                IxDyn(&header.shape).set_f(header.fortran),
                values,
            )?)
        }};
    }
    let values = match code {
        "f4" => convert!(f32, f32, F32),
        "f8" => convert!(f64, f64, F64),
        "f2" => {
            let bits: Vec<f16> = (data.chunks_exact(2))
                .map(|b| f16::from_bits(if big { [b[1], b[0]] } else { [b[0], b[1]] }.le()))
                .collect();
            let shape = IxDyn(&header.shape).set_f(header.fortran);
            Buffer::F16(ArrayD::from_shape_vec(shape, bits)?)
        }
        "i1" => convert!(i8, f64, F64),
        "i2" => convert!(i16, f64, F64),
        "i4" => convert!(i32, f64, F64),
        "i8" => convert!(i64, f64, F64),
        "u2" => convert!(u16, f64, F64),
        "u4" => convert!(u32, f64, F64),
        "u8" => convert!(u64, f64, F64),
        _ => convert!(u8, f64, F64),
    };
    Ok(Opened::Converted { values, firm: kind.is_some() })
}

/// Little-endian bits.
trait Le {
    fn le(self) -> u16;
}
impl Le for [u8; 2] {
    fn le(self) -> u16 {
        u16::from_le_bytes(self)
    }
}

fn width(code: &str) -> Option<usize> {
    Some(match code {
        "b1" | "i1" | "u1" => 1,
        "f2" | "i2" | "u2" => 2,
        "f4" | "i4" | "u4" => 4,
        "f8" | "i8" | "u8" => 8,
        _ => return None,
    })
}

/// The header, and where the array begins.
fn header(bytes: &[u8]) -> Result<(Header, usize), String> {
    if bytes.get(..6) != Some(b"\x93NUMPY") {
        return Err("is no .npy file: it does not begin as one".into());
    }
    let short = || "ends within its header: the file is damaged".to_string();
    let number = |at: usize, len: usize| -> Result<usize, String> {
        let own = bytes.get(at..at + len).ok_or_else(short)?;
        Ok(own.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    };
    let (start, length) = match bytes.get(6) {
        Some(1) => (10, number(8, 2)?),
        Some(2 | 3) => (12, number(8, 4)?),
        version => return Err(format!("is of version {version:?}; expected 1, 2 or 3")),
    };
    let text = bytes.get(start..start + length).ok_or_else(short)?;
    let text = String::from_utf8_lossy(text);
    let wrong = |what: &str| format!("its header has no {what}: {}", text.trim_end());
    if !text.trim_start().starts_with('{') {
        return Err(wrong("dictionary"));
    }
    // What stands after `'key':`; the crate that reads Python's literals needs an assembler for each target.
    let get = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}'"))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = get("descr").ok_or_else(|| wrong("'descr'"))?;
    let Some((descr, _)) = descr.strip_prefix('\'').and_then(|s| s.split_once('\'')) else {
        return Err("has named columns; expected elements of one type".into());
    };
    let fortran = match get("fortran_order") {
        Some(v) if v.starts_with("True") => true,
        Some(v) if v.starts_with("False") => false,
        _ => return Err(wrong("'fortran_order'")),
    };
    let shape = get("shape").and_then(|s| s.strip_prefix('(')?.split_once(')'));
    let (shape, _) = shape.ok_or_else(|| wrong("'shape'"))?;
    let extents = shape.split(',').map(str::trim).filter(|e| !e.is_empty()).map(|e| e.parse().ok());
    let shape: Option<Vec<usize>> = extents.collect();
    let shape = shape.ok_or_else(|| wrong("'shape' of whole numbers"))?;
    Ok((Header { descr: descr.into(), fortran, shape }, start + length))
}

/// An array to write: elements of a type that NumPy knows, row by row.
pub struct Entry<'a> {
    pub descr: &'a str,
    pub shape: &'a [usize],
    pub bytes: &'a [u8],
}

/// Writes an array in version 1.0, its data aligned to 64 bytes.
pub fn write_npy(out: &mut dyn Write, entry: &Entry<'_>) -> std::io::Result<()> {
    let extents: Vec<String> = entry.shape.iter().map(|n| format!("{n},")).collect();
    let mut text = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
        entry.descr,
        // (A comma after the last of several is as good.)
        extents.join(" ")
    );
    while !(10 + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(std::io::Error::other)?;
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(text.as_bytes())?;
    out.write_all(entry.bytes)
}

/// Type and bytes of a result, row by row. NumPy has no bfloat16: it is written as f32.
pub fn bytes_of(buffer: &Buffer) -> Done<(&'static str, Vec<u8>)> {
    macro_rules! bytes {
        ($array:expr, $descr:literal, $v:ident => $value:expr) => {{
            let each = $array.iter().map(|$v| $value);
            let mut bytes = memory::room(each.len().saturating_mul(8))?;
            each.for_each(|v| bytes.extend(v.to_le_bytes()));
            ($descr, bytes)
        }};
    }
    Ok(match buffer {
        Buffer::F16(a) => bytes!(a, "<f2", v => *v),
        Buffer::BF16(a) => bytes!(a, "<f4", v => v.to_f32()),
        Buffer::F32(a) => bytes!(a, "<f4", v => *v),
        Buffer::F64(a) => bytes!(a, "<f8", v => *v),
        Buffer::I64(a) => bytes!(a, "<i8", v => *v),
    })
}
