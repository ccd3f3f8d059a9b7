//! Indented C++ text, and the spelling of numbers and indices.

use keops_core::program::Affine;
use keops_core::vecmath::Precision;

/// C++ text under construction.
#[derive(Default)]
pub struct Text {
    out: String,
    depth: usize,
}

impl Text {
    /// A line.
    pub fn line(&mut self, s: impl AsRef<str>) {
        for _ in 0..self.depth {
            self.out.push_str("  ");
        }
        self.out.push_str(s.as_ref());
        self.out.push('\n');
    }
    /// A preprocessor line.
    pub fn pragma(&mut self, s: &str) {
        self.line(format!("#pragma {s}"));
    }
    /// Opens a block with this head.
    pub fn open(&mut self, head: impl AsRef<str>) {
        let head = head.as_ref();
        self.line(if head.is_empty() { "{".to_string() } else { format!("{head} {{") });
        self.depth += 1;
    }
    /// Closes the innermost block.
    pub fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }
    /// The text.
    pub fn finish(self) -> String {
        self.out
    }
}

/// A real constant of the compute type.
pub fn real(v: f64, precision: Precision) -> String {
    if v.is_nan() {
        return "KEOPS_NAN".into();
    }
    let v = if precision == Precision::F32 { f64::from(v as f32) } else { v };
    if v.is_infinite() {
        return if v > 0.0 { "KEOPS_INFINITY" } else { "(-KEOPS_INFINITY)" }.into();
    }
    let digits = match precision {
        Precision::F32 => format!("{:?}f", v as f32),
        Precision::F64 => format!("{v:?}"),
    };
    if v.is_sign_negative() { format!("({digits})") } else { digits }
}

/// An index, in terms of the counters `l0`, `l1` …
pub fn index(a: &Affine) -> String {
    let mut parts: Vec<String> = a
        .terms
        .iter()
        .map(|&(l, s)| if s == 1 { format!("l{}", l.0) } else { format!("{s} * l{}", l.0) })
        .collect();
    if a.offset != 0 || parts.is_empty() {
        parts.insert(0, a.offset.to_string());
    }
    parts.join(" + ")
}
