//! PLY through `ply-rs-bw`, with its announced sizes checked against the file first.

use ply_rs_bw::parser::{ParseError, Parser, Reader};
use ply_rs_bw::ply::{
    ElementDef, Encoding, Property, PropertyAccess, PropertyAccessResult, PropertyType, ScalarType,
};

use super::{Failure, Place, RawMesh, ReadReason};

/// One element of any kind: the properties that matter for a shape.
struct Record {
    /// x, y, z of a vertex; NaN until set.
    position: [f64; 3],
    /// `vertex_indices` (or `vertex_index`) of a face, `vertex1` and `vertex2` of an edge.
    corners: Vec<i64>,
}

impl PropertyAccess for Record {
    fn new() -> Record {
        Record { position: [f64::NAN; 3], corners: Vec::new() }
    }

    fn set_property(&mut self, name: &str, property: Property) -> PropertyAccessResult {
        fn wide<T: Copy + Into<i64>>(list: &[T]) -> Vec<i64> {
            list.iter().map(|&i| i.into()).collect()
        }
        let axis = match name {
            "x" => Some(0),
            "y" => Some(1),
            "z" => Some(2),
            _ => None,
        };
        let (real, integer) = match property {
            Property::Char(v) => (f64::from(v), Some(i64::from(v))),
            Property::UChar(v) => (f64::from(v), Some(i64::from(v))),
            Property::Short(v) => (f64::from(v), Some(i64::from(v))),
            Property::UShort(v) => (f64::from(v), Some(i64::from(v))),
            Property::Int(v) => (f64::from(v), Some(i64::from(v))),
            Property::UInt(v) => (f64::from(v), Some(i64::from(v))),
            Property::Float(v) => (f64::from(v), None),
            Property::Double(v) => (v, None),
            list => {
                if name != "vertex_indices" && name != "vertex_index" {
                    return PropertyAccessResult::Ignored;
                }
                self.corners = match &list {
                    Property::ListChar(l) => wide(l),
                    Property::ListUChar(l) => wide(l),
                    Property::ListShort(l) => wide(l),
                    Property::ListUShort(l) => wide(l),
                    Property::ListInt(l) => wide(l),
                    Property::ListUInt(l) => wide(l),
                    _ => return PropertyAccessResult::UnsupportedType,
                };
                return PropertyAccessResult::Set;
            }
        };
        match (axis, name, integer) {
            (Some(axis), ..) => self.position[axis] = real,
            (None, "vertex1" | "vertex2", Some(i)) => self.corners.push(i),
            (None, "vertex1" | "vertex2", None) => return PropertyAccessResult::UnsupportedType,
            _ => return PropertyAccessResult::Ignored,
        }
        PropertyAccessResult::Set
    }
}

/// Fewest bytes one element can take: in ASCII a digit and a separator per property.
fn least_size(element: &ElementDef, encoding: Encoding) -> u64 {
    let scalar = |kind: &ScalarType| match kind {
        _ if encoding == Encoding::Ascii => 2,
        ScalarType::Char | ScalarType::UChar => 1,
        ScalarType::Short | ScalarType::UShort => 2,
        ScalarType::Int | ScalarType::UInt | ScalarType::Float => 4,
        ScalarType::Double => 8,
    };
    let properties = element.properties.iter().map(|(_, property)| match &property.data_type {
        PropertyType::Scalar(kind) | PropertyType::List(kind, _) => scalar(kind),
    });
    properties.sum()
}

pub(super) fn read(bytes: &[u8]) -> Result<RawMesh, Failure> {
    let mut reader = Reader::new(bytes);
    let parser = Parser::<Record>::new();
    let header = parser.read_header(&mut reader).map_err(|e| failure(&e, Place::Line(1)))?;
    let binary = header.encoding != Encoding::Ascii;
    let mut mesh = RawMesh {
        binary,
        title: header.comments.first().cloned().unwrap_or_default(),
        ..RawMesh::default()
    };
    let mut vertices_seen = false;
    // Faces may stand before the vertices they name.
    let mut cells: Vec<(Place, Vec<i64>, bool)> = Vec::new();
    let wanted = |name: &str| matches!(name, "vertex" | "face" | "edge");
    let last = header.elements.iter().filter(|(name, _)| wanted(name)).count();
    let mut done = 0;
    for (name, element) in &header.elements {
        if !wanted(name) {
            mesh.skipped.push(format!("element {name}"));
            if done == last {
                continue;
            }
        }
        let (line, left) = (reader.line(), reader.get_ref().len());
        let start = bytes.len() - left;
        let place = if binary { Place::Byte(start) } else { Place::Line(line) };
        if element.properties.is_empty() && element.count > 0 {
            let what = format!("element {name} without properties");
            return Err(Failure::new(place, ReadReason::Unsupported(what)));
        }
        let needed = (element.count as u64).saturating_mul(least_size(element, header.encoding));
        // The last line of an ASCII file may lack its line break.
        if needed > left as u64 + u64::from(!binary) {
            let what = format!("element {name} ({} announced)", element.count);
            return Err(Failure::new(place, ReadReason::Truncated { what, needed, left }));
        }
        let records = parser
            .read_payload_for_element(&mut reader, element, &header)
            .map_err(|e| failure(&e, Place::Byte(bytes.len() - reader.get_ref().len())))
            .map_err(|f| if binary { Failure { place, ..f } } else { f })?;
        // ASCII elements are one line each; binary ones are found by the start of their block.
        let place_of = |i: usize| if binary { place } else { Place::Line(line + i) };
        match name.as_str() {
            "vertex" => {
                vertices_seen = true;
                let names = ["x", "y", "z"];
                mesh.dim = names.iter().filter(|axis| has(element, axis)).count();
                if !has(element, "x") || !has(element, "y") {
                    let got = "a vertex element without them";
                    return Err(Failure::syntax(place, "vertex properties x and y", got));
                }
                for (i, record) in records.iter().enumerate() {
                    for &value in &record.position[..mesh.dim] {
                        mesh.push_coordinate(value, place_of(i))?;
                    }
                }
            }
            "face" | "edge" => {
                let face = name == "face";
                let listed = has(element, "vertex_indices") || has(element, "vertex_index");
                let paired = has(element, "vertex1") && has(element, "vertex2");
                if element.count > 0 && !(if face { listed } else { paired }) {
                    let expected =
                        if face { "property vertex_indices" } else { "vertex1 and vertex2" };
                    return Err(Failure::syntax(place, expected, format!("a {name} without")));
                }
                let numbered = records.into_iter().enumerate();
                cells.extend(numbered.map(|(i, r)| (place_of(i), r.corners, face)));
            }
            _ => {}
        }
        done += usize::from(wanted(name));
    }
    if !vertices_seen {
        return Err(Failure::syntax(Place::File, "an element vertex", "none in the header"));
    }
    let vertices = mesh.vertex_count();
    for (cell, (place, corners, face)) in cells.into_iter().enumerate() {
        let index = |&index: &i64| {
            usize::try_from(index).ok().filter(|&i| i < vertices).ok_or_else(|| {
                let reason = ReadReason::Index { cell, index, vertices, base: "from 0" };
                Failure::new(place, reason)
            })
        };
        let corners = corners.iter().map(index).collect::<Result<Vec<_>, _>>()?;
        if face {
            mesh.push_polygon(&corners);
        } else {
            mesh.push_polyline(&corners);
        }
    }
    Ok(mesh)
}

fn has(element: &ElementDef, property: &str) -> bool {
    element.properties.iter().any(|(name, _)| name == property)
}

/// The parser's message on one line, cut to a readable length, without its own line number.
fn failure(error: &ParseError, otherwise: Place) -> Failure {
    let mut text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let place = error.line().map_or(otherwise, Place::Line);
    if let Place::Line(line) = place {
        text = text.trim_start_matches(&format!("Line {line}: ")).into();
    }
    if let Some((cut, _)) = text.char_indices().nth(240) {
        text.truncate(cut);
        text.push('…');
    }
    Failure::new(place, ReadReason::Format(text))
}
