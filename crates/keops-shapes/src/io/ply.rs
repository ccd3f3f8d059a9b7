//! PLY, ASCII and binary of both byte orders (Turk 1994, "The PLY Polygon File Format").
//!
//! Read here rather than through a crate so that sizes are checked against the file, memory is asked
//! for fallibly and errors name a line or a byte, as for the other formats.

use super::scan::{Scanner, parse_word, quoted};
use super::{Corner, Failure, Location, RawMesh, ReadReason, push};

/// Most elements of a header and most properties of an element.
const MOST: usize = 1000;

/// Scalar types of the format.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Type {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

impl Type {
    fn parse(word: &[u8]) -> Option<Type> {
        Some(match word {
            b"char" | b"int8" => Type::I8,
            b"uchar" | b"uint8" => Type::U8,
            b"short" | b"int16" => Type::I16,
            b"ushort" | b"uint16" => Type::U16,
            b"int" | b"int32" => Type::I32,
            b"uint" | b"uint32" => Type::U32,
            b"float" | b"float32" => Type::F32,
            b"double" | b"float64" => Type::F64,
            _ => return None,
        })
    }
    fn size(self) -> usize {
        match self {
            Type::I8 | Type::U8 => 1,
            Type::I16 | Type::U16 => 2,
            Type::I32 | Type::U32 | Type::F32 => 4,
            Type::F64 => 8,
        }
    }
    fn is_integer(self) -> bool {
        !matches!(self, Type::F32 | Type::F64)
    }
    /// From the low bytes of a word.
    fn decode(self, word: u64) -> f64 {
        match self {
            Type::I8 => f64::from(word as i8),
            Type::U8 => f64::from(word as u8),
            Type::I16 => f64::from(word as i16),
            Type::U16 => f64::from(word as u16),
            Type::I32 => f64::from(word as i32),
            Type::U32 => f64::from(word as u32),
            Type::F32 => f64::from(f32::from_bits(word as u32)),
            Type::F64 => f64::from_bits(word),
        }
    }
    /// From text; the value is rounded to the type.
    fn parse_number(self, word: &[u8]) -> Option<f64> {
        fn wide<T: std::str::FromStr + Into<f64>>(word: &[u8]) -> Option<f64> {
            parse_word::<T>(word).map(Into::into)
        }
        match self {
            Type::I8 => wide::<i8>(word),
            Type::U8 => wide::<u8>(word),
            Type::I16 => wide::<i16>(word),
            Type::U16 => wide::<u16>(word),
            Type::I32 => wide::<i32>(word),
            Type::U32 => wide::<u32>(word),
            Type::F32 => wide::<f32>(word),
            Type::F64 => wide::<f64>(word),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Ascii,
    Little,
    Big,
}

/// What a property is for.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// Coordinate x, y or z of a vertex.
    Coordinate(usize),
    /// The corners of a face, or an end of an edge.
    Corner,
    Ignored,
}

struct Property<'a> {
    name: &'a [u8],
    /// Type of the length, for lists.
    length: Option<Type>,
    item: Type,
    role: Role,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Vertex,
    Face,
    Edge,
    Other,
}

struct Element<'a> {
    name: &'a [u8],
    kind: Kind,
    count: u64,
    location: Location,
    properties: Vec<Property<'a>>,
}

impl Element<'_> {
    fn has(&self, role: Role) -> bool {
        self.properties.iter().any(|p| p.role == role)
    }
    /// Fewest bytes that one can take: in ASCII a digit and a separator for each property.
    fn least_size(&self, encoding: Encoding) -> u64 {
        let size = |p: &Property<'_>| match encoding {
            Encoding::Ascii => 2,
            _ => p.length.unwrap_or(p.item).size() as u64,
        };
        self.properties.iter().map(size).sum()
    }
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(40)]).into_owned()
}

/// The header up to and with its last line; the first comment becomes the title.
fn header<'a>(
    scan: &mut Scanner<'a>,
    mesh: &mut RawMesh,
) -> Result<(Encoding, Vec<Element<'a>>), Failure> {
    let first = scan.next_line().unwrap_or_default();
    if first.trim_ascii_end() != b"ply" {
        return Err(Failure::syntax(Location::Line(1), "ply", quoted(first)));
    }
    let lone_return = scan.lone_return;
    let mut encoding = None;
    let mut elements: Vec<Element<'_>> = Vec::new();
    loop {
        let location = scan.location();
        let Some(line) = scan.next_line() else {
            return Err(Failure::syntax(location, "end_header", "the end of the file"));
        };
        let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let mut word = || words.next().unwrap_or_default();
        let keyword = word();
        match keyword {
            b"end_header" => {}
            b"format" => {
                let name = word();
                encoding = Some(match name {
                    b"ascii" => Encoding::Ascii,
                    b"binary_little_endian" => Encoding::Little,
                    b"binary_big_endian" => Encoding::Big,
                    _ => {
                        let expected = "ascii, binary_little_endian or binary_big_endian";
                        return Err(Failure::syntax(location, expected, quoted(name)));
                    }
                });
                let version = word();
                if version != b"1.0" {
                    return Err(Failure::syntax(location, "version 1.0", quoted(version)));
                }
            }
            b"comment" => {
                if mesh.title.is_empty() {
                    let comment = line.trim_ascii_start()[b"comment".len()..].trim_ascii();
                    let comment = &comment[..comment.len().min(256)];
                    mesh.title = String::from_utf8_lossy(comment).into_owned();
                }
            }
            b"obj_info" | b"" => {}
            b"element" => {
                let (name, count) = (word(), word());
                let count = parse_word(count).filter(|_| !name.is_empty()).ok_or_else(|| {
                    Failure::syntax(location, "element, a name and a count", quoted(line))
                })?;
                let kind = match name {
                    b"vertex" => Kind::Vertex,
                    b"face" => Kind::Face,
                    b"edge" => Kind::Edge,
                    _ => Kind::Other,
                };
                if elements.iter().any(|e| e.kind == kind && kind != Kind::Other) {
                    let expected = format!("one element {}", text(name));
                    return Err(Failure::syntax(location, expected, "a second one"));
                }
                elements.push(Element { name, kind, count, location, properties: Vec::new() });
            }
            b"property" => {
                let Some(element) = elements.last_mut() else {
                    return Err(Failure::syntax(location, "an element before", quoted(line)));
                };
                let (mut kind, mut length) = (word(), None);
                if kind == b"list" {
                    let of_length = word();
                    length = Type::parse(of_length).filter(|t| t.is_integer());
                    if length.is_none() {
                        let expected = "an integer type of the length of a list";
                        return Err(Failure::syntax(location, expected, quoted(of_length)));
                    }
                    kind = word();
                }
                let item = Type::parse(kind)
                    .ok_or_else(|| Failure::syntax(location, "a PLY data type", quoted(kind)))?;
                let name = word();
                let role = match (element.kind, name, length) {
                    (Kind::Vertex, b"x", None) => Role::Coordinate(0),
                    (Kind::Vertex, b"y", None) => Role::Coordinate(1),
                    (Kind::Vertex, b"z", None) => Role::Coordinate(2),
                    (Kind::Face, b"vertex_indices" | b"vertex_index", Some(_))
                    | (Kind::Edge, b"vertex1" | b"vertex2", None) => Role::Corner,
                    _ => Role::Ignored,
                };
                if role == Role::Corner && !item.is_integer() {
                    let expected = format!("an integer type of {}", text(name));
                    return Err(Failure::syntax(location, expected, quoted(kind)));
                }
                if element.properties.iter().any(|p| p.role == role && role != Role::Ignored)
                    && element.kind != Kind::Edge
                {
                    let expected = format!("one property {}", text(name));
                    return Err(Failure::syntax(location, expected, "a second one"));
                }
                element.properties.push(Property { name, length, item, role });
            }
            other => {
                let expected = "format, comment, element, property or end_header";
                return Err(Failure::syntax(location, expected, quoted(other)));
            }
        }
        if let (Some(more), false) = (words.next(), matches!(keyword, b"comment" | b"obj_info")) {
            let expected = format!("no more on the line of {}", text(keyword));
            return Err(Failure::syntax(location, expected, quoted(more)));
        }
        if keyword == b"end_header" {
            break;
        }
        let most = elements.iter().map(|e| e.properties.len()).max().unwrap_or(0);
        if elements.len() > MOST || most > MOST {
            let what = format!("a header of more than {MOST} elements or properties of one");
            return Err(Failure::new(location, ReadReason::Unsupported(what)));
        }
    }
    let encoding = encoding
        .ok_or_else(|| Failure::syntax(scan.location(), "a format in the header", "none"))?;
    if encoding != Encoding::Ascii && lone_return {
        // (Whether a line feed after the header belongs to it could not be told.)
        let expected = "lines that end in \\n or \\r\\n before binary data";
        return Err(Failure::syntax(Location::Line(1), expected, "\\r alone"));
    }
    Ok((encoding, elements))
}

/// The numbers of an element in turn.
enum Numbers<'s, 'a> {
    /// Those of one line.
    Words {
        location: Location,
        line: &'a [u8],
        rest: &'a [u8],
    },
    Bytes {
        scan: &'s mut Scanner<'a>,
        big: bool,
    },
}

impl Numbers<'_, '_> {
    fn next(&mut self, kind: Type, property: &[u8]) -> Result<(f64, Location), Failure> {
        match self {
            Numbers::Words { location, line, rest } => {
                let start = rest.trim_ascii_start();
                let length = start.iter().position(u8::is_ascii_whitespace).unwrap_or(start.len());
                let (word, left) = start.split_at(length);
                *rest = left;
                match kind.parse_number(word) {
                    Some(x) => Ok((x, *location)),
                    None => {
                        let expected = format!("a number of property {}", text(property));
                        let got = format!("{} in {}", quoted(word), quoted(line));
                        Err(Failure::syntax(*location, expected, got))
                    }
                }
            }
            Numbers::Bytes { scan, big } => {
                let location = scan.location();
                let size = kind.size();
                let length =
                    scan.require(1, size as u64, || format!("property {}", text(property)))?;
                let mut wide = [0; 8];
                wide[..size].copy_from_slice(scan.raw(length));
                if *big {
                    wide[..size].reverse();
                }
                Ok((kind.decode(u64::from_le_bytes(wide)), location))
            }
        }
    }
    /// Fails if more words follow on the line.
    fn finish(&self, name: &str) -> Result<(), Failure> {
        match self {
            Numbers::Words { location, rest, .. } if !rest.trim_ascii().is_empty() => {
                let expected = format!("no more on the line of element {name}");
                Err(Failure::syntax(*location, expected, quoted(rest.trim_ascii())))
            }
            _ => Ok(()),
        }
    }
    /// Fails unless `count` more numbers can be there.
    fn require(&self, count: u64, kind: Type, property: &[u8]) -> Result<(), Failure> {
        let what = || format!("the list {} ({count} numbers)", text(property));
        match self {
            Numbers::Bytes { scan, .. } => scan.require(count, kind.size() as u64, what).map(drop),
            Numbers::Words { location, rest, .. } => {
                let (needed, left) = (count.saturating_mul(2), rest.len());
                if needed <= left as u64 {
                    return Ok(());
                }
                let reason = ReadReason::Truncated { what: what(), needed, left };
                Err(Failure::new(*location, reason))
            }
        }
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<RawMesh, Failure> {
    let mut scan = Scanner::new(bytes);
    let mut mesh = RawMesh::default();
    let (encoding, elements) = header(&mut scan, &mut mesh)?;
    mesh.binary = encoding != Encoding::Ascii;
    scan.binary = mesh.binary;
    let last = elements.iter().rposition(|e| e.kind != Kind::Other);
    let (mut vertices_seen, mut unread) = (false, false);
    // Faces may stand before the vertices they name.
    let (mut cells, mut corners) = (Vec::new(), Vec::new());
    for (k, element) in elements.iter().enumerate() {
        let location = scan.location();
        let name = text(element.name);
        if element.kind == Kind::Other {
            mesh.skipped.push(format!("element {name}"));
            if last.is_none_or(|last| k > last) {
                unread = true;
                continue;
            }
        }
        if element.properties.is_empty() && element.count > 0 {
            let what = format!("element {name} without properties");
            return Err(Failure::new(element.location, ReadReason::Unsupported(what)));
        }
        match element.kind {
            Kind::Vertex => {
                vertices_seen = true;
                if !element.has(Role::Coordinate(0)) || !element.has(Role::Coordinate(1)) {
                    let got = "a vertex element without them";
                    return Err(Failure::syntax(
                        element.location,
                        "vertex properties x and y",
                        got,
                    ));
                }
                mesh.dim = if element.has(Role::Coordinate(2)) { 3 } else { 2 };
            }
            Kind::Face | Kind::Edge if element.count > 0 => {
                let ends = element.properties.iter().filter(|p| p.role == Role::Corner).count();
                let (needed, expected) = match element.kind {
                    Kind::Face => (1, "property vertex_indices"),
                    _ => (2, "vertex1 and vertex2"),
                };
                if ends != needed {
                    let got = format!("a {name} without");
                    return Err(Failure::syntax(element.location, expected, got));
                }
            }
            _ => {}
        }
        // The last line of an ASCII file may lack its line break.
        let what = || format!("element {name} ({} announced)", element.count);
        let least = element.least_size(encoding);
        let needed = element.count.saturating_mul(least);
        scan.require(needed.saturating_sub(u64::from(!mesh.binary)), 1, what)?;
        if element.kind == Kind::Vertex {
            // (As many as fit into the file, after the check.)
            mesh.coordinates =
                keops_core::memory::room(mesh.dim * element.count as usize, super::SHAPE)?;
        }
        for _ in 0..element.count {
            let mut numbers = if mesh.binary {
                Numbers::Bytes { scan: &mut scan, big: encoding == Encoding::Big }
            } else {
                let (location, line) = ascii_line(&mut scan, &what)?;
                Numbers::Words { location, line, rest: line }
            };
            let mut position = [0.0; 3];
            let before = corners.len();
            let mut at = location;
            for (k, p) in element.properties.iter().enumerate() {
                let mut count = 1;
                if let Some(kind) = p.length {
                    let (length, location) = numbers.next(kind, p.name)?;
                    if length < 0.0 {
                        let expected = format!("the length of the list {}", text(p.name));
                        return Err(Failure::syntax(location, expected, length.to_string()));
                    }
                    count = length as u64;
                    numbers.require(count, p.item, p.name)?;
                    at = if k == 0 { location } else { at };
                }
                for _ in 0..count {
                    let (x, location) = numbers.next(p.item, p.name)?;
                    match p.role {
                        Role::Coordinate(axis) => (position[axis], at) = (x, location),
                        Role::Corner => {
                            let index = x as i64;
                            push(&mut corners, Corner { index, from_zero: index })?;
                            at = location;
                        }
                        Role::Ignored => {}
                    }
                }
            }
            numbers.finish(&name)?;
            match element.kind {
                Kind::Vertex => {
                    for &x in &position[..mesh.dim] {
                        mesh.push_coordinate(x, at)?;
                    }
                }
                Kind::Face | Kind::Edge => {
                    let face = element.kind == Kind::Face;
                    push(&mut cells, (at, corners.len() - before, face))?;
                }
                Kind::Other => {}
            }
        }
    }
    if !vertices_seen {
        return Err(Failure::syntax(Location::File, "an element vertex", "none in the header"));
    }
    if !unread {
        let location = scan.location();
        let left = scan.left();
        let rest = scan.raw(left).trim_ascii_start();
        if !rest.is_empty() {
            let expected = "the end of the file after the elements announced";
            let word = rest.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            return Err(Failure::syntax(location, expected, quoted(word)));
        }
    }
    mesh.push_cells(&cells, &corners, "from 0")?;
    Ok(mesh)
}

/// The next line that is not empty.
fn ascii_line<'a>(
    scan: &mut Scanner<'a>,
    what: &dyn Fn() -> String,
) -> Result<(Location, &'a [u8]), Failure> {
    loop {
        let location = scan.location();
        match scan.next_line() {
            None => return Err(Failure::syntax(location, what(), "the end of the file")),
            Some(line) if line.trim_ascii().is_empty() => {}
            Some(line) => return Ok((location, line)),
        }
    }
}
