//! Words of formula strings.

use crate::error::{ParseError, Span};

/// Kind of a word.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Token {
    /// A number without sign.
    Number(f64),
    /// A name; its text is that of the span.
    Name,
    /// An operator or a bracket.
    Symbol(&'static str),
    /// After the last word.
    End,
}

/// Longer symbols come before their prefixes.
const SYMBOLS: [&str; 21] = [
    "**", "<=", ">=", "==", "!=", "<", ">", "=", "+", "-", "*", "/", "|", "(", ")", "[", "]", ",",
    ":", ";", ".",
];

/// The words of a text, [`Token::End`] last.
pub(super) fn words(text: &str) -> Result<Vec<(Token, Span)>, ParseError> {
    let mut words = vec![];
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let digit_after_point = c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit());
        let (token, len) = if c.is_ascii_digit() || digit_after_point {
            let len = number_len(rest.as_bytes());
            let span = Span { start: at, end: at + len };
            let fail = |what: &str| {
                let message = format!("the number {} {what}", &rest[..len]);
                Err(ParseError { message, text: text.into(), span })
            };
            match rest[..len].parse::<f64>() {
                Ok(v) if v.is_finite() => (Token::Number(v), len),
                Ok(_) => return fail("is too large for f64; write Inf for infinity"),
                Err(_) => return fail("cannot be read"),
            }
        } else if is_name_start(c) {
            let len = rest.find(|c: char| !is_name_part(c)).unwrap_or(rest.len());
            (Token::Name, len)
        } else if let Some(s) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            (Token::Symbol(s), s.len())
        } else {
            let span = Span { start: at, end: at + c.len_utf8() };
            let hint = match c {
                '^' => ": powers are written `a ** b`",
                '@' => {
                    ": products are written `MatVecMult(a, b)`, or `a | b` of vectors; a \
                        kernel matrix has `matmul`"
                }
                '&' => ": products of masks are `and`, as in `(a < b) * (c < d)`",
                '%' => ": write `Mod(a, n, 0)`",
                '!' => ": write `a != b`, or `1 - a` of a mask",
                _ => "",
            };
            let message = format!("unexpected character {c:?}{hint}");
            return Err(ParseError { message, text: text.into(), span });
        };
        words.push((token, Span { start: at, end: at + len }));
        at += len;
    }
    words.push((Token::End, Span { start: text.len(), end: text.len() }));
    Ok(words)
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}
fn is_name_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
/// Can it be the name of a variable?
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(is_name_start) && text.chars().all(is_name_part)
}

/// Length of the number that a text starts with: digits, a point, digits, an exponent.
fn number_len(text: &[u8]) -> usize {
    let digits = |mut at: usize| {
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut end = digits(0);
    if text.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = matches!(text.get(end + 1), Some(b'+' | b'-')) as usize;
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}
