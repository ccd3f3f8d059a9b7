//! Wavefront OBJ: vertices, faces (`v`, `v/vt`, `v//vn`, `v/vt/vn`, negative indices), lines.

use super::scan::{Scanner, parse_word, quoted};
use super::{Corner, Failure, RawMesh, ReadReason, SHAPE, push};
use keops_core::memory;

/// Statements that are known and do not matter for a shape.
const IGNORED: &[&[u8]] = &[
    b"vt",
    b"vn",
    b"vp",
    b"g",
    b"o",
    b"s",
    b"mg",
    b"usemtl",
    b"mtllib",
    b"usemap",
    b"maplib",
    b"bevel",
    b"c_interp",
    b"d_interp",
    b"lod",
    b"shadow_obj",
    b"trace_obj",
    b"p",
];

/// Whether `word` can begin a line of an OBJ file.
pub(super) fn is_statement(word: &[u8]) -> bool {
    matches!(word, b"v" | b"f" | b"l") || IGNORED.contains(&word)
}

pub(super) fn read(bytes: &[u8]) -> Result<RawMesh, Failure> {
    let mut scan = Scanner::new(bytes);
    let mut mesh = RawMesh { dim: 3, ..RawMesh::default() };
    // A face may name vertices that come later only by positive index: check at the end.
    let (mut cells, mut corners) = (Vec::new(), Vec::new());
    let mut joined = Vec::new();
    loop {
        let location = scan.location();
        let Some(line) = scan.next_line() else { break };
        // A backslash continues the statement on the next line.
        let mut statement = line;
        if line.ends_with(b"\\") {
            joined.clear();
            let mut part = line;
            loop {
                let head = part.strip_suffix(b"\\");
                let text = head.unwrap_or(part);
                joined
                    .try_reserve(text.len() + 1)
                    .map_err(|_| memory::refused::<u8>(joined.len() + text.len(), SHAPE))?;
                joined.extend_from_slice(text);
                if head.is_none() {
                    break;
                }
                joined.push(b' ');
                part = scan.next_line().unwrap_or_default();
            }
            statement = &joined;
        }
        let statement = statement.split(|&b| b == b'#').next().unwrap_or_default();
        let mut words = statement.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let Some(keyword) = words.next() else {
            if mesh.title.is_empty() && line.starts_with(b"#") {
                mesh.title = String::from_utf8_lossy(&line[1..line.len().min(257)]).trim().into();
            }
            continue;
        };
        match keyword {
            b"v" => {
                for axis in ["x", "y", "z"] {
                    let word = words.next().unwrap_or_default();
                    let value = parse_word(word).ok_or_else(|| {
                        let expected = format!("coordinate {axis} of a vertex");
                        Failure::syntax(location, expected, quoted(word))
                    })?;
                    mesh.push_coordinate(value, location)?;
                }
                // A weight, a colour, or both may follow.
                let mut more = 0;
                for word in words {
                    more += 1;
                    if parse_word::<f64>(word).is_none() || more > 4 {
                        let expected = "a weight, a colour or nothing after z";
                        return Err(Failure::syntax(location, expected, quoted(word)));
                    }
                }
                if more == 2 {
                    let expected = "1, 3 or 4 numbers, or none, after z";
                    return Err(Failure::syntax(location, expected, "2"));
                }
                let what = "weights and colours of vertices";
                if more > 0 && !mesh.skipped.iter().any(|s| s == what) {
                    mesh.skipped.push(what.into());
                }
            }
            b"f" | b"l" => {
                let before = corners.len();
                for word in words {
                    let mut parts = word.split(|&b| b == b'/');
                    let first = parts.next().unwrap_or_default();
                    let index: i64 = parse_word(first)
                        .ok_or_else(|| Failure::syntax(location, "a vertex index", quoted(word)))?;
                    // Texture and normal, which may be left out.
                    let number = |part: &[u8]| part.is_empty() || parse_word::<i64>(part).is_some();
                    if parts.clone().count() > 2 || !parts.all(number) {
                        let expected = "a vertex index, or v/vt, v//vn or v/vt/vn";
                        return Err(Failure::syntax(location, expected, quoted(word)));
                    }
                    // Negative indices count back from the latest vertex.
                    let seen = mesh.vertex_count() as i64;
                    let from_zero = if index < 0 { seen.saturating_add(index) } else { index - 1 };
                    push(&mut corners, Corner { index, from_zero })?;
                }
                let length = corners.len() - before;
                if length < 2 {
                    let expected = "at least two vertex indices";
                    return Err(Failure::syntax(location, expected, length.to_string()));
                }
                push(&mut cells, (location, length, keyword == b"f"))?;
            }
            _ if IGNORED.contains(&keyword) => {
                if keyword == b"p" && !mesh.skipped.iter().any(|s| s == "points (p)") {
                    mesh.skipped.push("points (p)".into());
                }
            }
            b"curv" | b"curv2" | b"surf" | b"cstype" | b"deg" | b"call" => {
                let what = format!("the OBJ statement {}", quoted(keyword));
                return Err(Failure::new(location, ReadReason::Unsupported(what)));
            }
            _ => {
                return Err(Failure::syntax(location, "an OBJ statement", quoted(keyword)));
            }
        }
    }
    mesh.push_cells(&cells, &corners, "from 1")?;
    Ok(mesh)
}
