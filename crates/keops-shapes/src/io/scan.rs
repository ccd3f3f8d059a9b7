//! A cursor over the bytes of a file that knows where it is.

use super::{Failure, Location, ReadReason};

/// Reads words, lines and raw bytes, counting lines.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    /// Did the last line end in a carriage return alone?
    pub lone_return: bool,
    /// Places are bytes instead of lines.
    pub binary: bool,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Scanner<'a> {
        Scanner { bytes, at: 0, line: 1, lone_return: false, binary: false }
    }

    /// The present location.
    pub fn location(&self) -> Location {
        if self.binary { Location::Byte(self.at) } else { Location::Line(self.line) }
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next line without its end, which is `\n`, `\r\n`, or `\r`; `None` at the end of the file.
    pub fn next_line(&mut self) -> Option<&'a [u8]> {
        if self.left() == 0 {
            return None;
        }
        let rest = &self.bytes[self.at..];
        let ends = |b: &u8| matches!(b, b'\n' | b'\r');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let both = rest[length..].starts_with(b"\r\n");
        self.lone_return = !both && rest[length..].starts_with(b"\r");
        self.at += (length + 1 + usize::from(both)).min(rest.len());
        self.line += 1;
        Some(&rest[..length])
    }

    /// Goes to the next word, over any white space.
    fn skip_space(&mut self) {
        while let Some(&b) = self.bytes.get(self.at).filter(|b| b.is_ascii_whitespace()) {
            self.at += 1;
            let ends = b == b'\n' || (b == b'\r' && self.bytes.get(self.at) != Some(&b'\n'));
            self.line += usize::from(ends);
        }
    }

    /// The next word and its location; `None` at the end of the file.
    pub fn word(&mut self) -> Option<(&'a [u8], Location)> {
        self.skip_space();
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let location = self.location();
        self.at += length;
        (length > 0).then(|| (&rest[..length], location))
    }

    /// The next word without taking it.
    pub fn peek(&mut self) -> Option<&'a [u8]> {
        let (at, line) = (self.at, self.line);
        let word = self.word().map(|(word, _)| word);
        (self.at, self.line) = (at, line);
        word
    }

    /// The next word parsed; `what` says what it should be.
    pub fn parse<T: std::str::FromStr>(
        &mut self,
        what: impl Fn() -> String,
    ) -> Result<(T, Location), Failure> {
        let (word, location) = self
            .word()
            .ok_or_else(|| Failure::syntax(self.location(), what(), "the end of the file"))?;
        match parse_word(word) {
            Some(value) => Ok((value, location)),
            None => Err(Failure::syntax(location, what(), quoted(word))),
        }
    }

    /// Ends the present line, which has no more words.
    pub fn finish_line(&mut self, of: &str) -> Result<(), Failure> {
        let location = self.location();
        match self.next_line().map(<[u8]>::trim_ascii) {
            None | Some(b"") => Ok(()),
            Some(more) => {
                Err(Failure::syntax(location, format!("no more on the line of {of}"), quoted(more)))
            }
        }
    }

    /// Ends the present line: what follows begins right after the line break.
    pub fn end_line(&mut self) {
        self.next_line();
    }

    /// Fails unless `count` items of `size` bytes are left; `what` names them.
    pub fn require(
        &self,
        count: u64,
        size: u64,
        what: impl Fn() -> String,
    ) -> Result<usize, Failure> {
        let needed = count.saturating_mul(size);
        if needed > self.left() as u64 {
            let reason = ReadReason::Truncated { what: what(), needed, left: self.left() };
            return Err(Failure::new(self.location(), reason));
        }
        Ok(needed as usize)
    }

    /// The next `length` bytes; call [`Scanner::require`] before.
    pub fn raw(&mut self, length: usize) -> &'a [u8] {
        let raw = &self.bytes[self.at..self.at + length];
        self.at += length;
        raw
    }
}

pub(super) fn parse_word<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// A word of the file for an error message, at most 40 characters of it.
pub(super) fn quoted(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(&word[..word.len().min(200)]);
    let mut short: String = text.chars().take(40).collect();
    if text.chars().count() > 40 || word.len() > 200 {
        short.push('…');
    }
    format!("{short:?}")
}
