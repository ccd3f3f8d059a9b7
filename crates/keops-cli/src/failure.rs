//! How a run ends: exit codes, and what is printed.

use std::process::ExitCode;

/// A run that did not do all that it was asked for. The text says what to do.
#[derive(Debug)]
pub enum Failure {
    /// An input, an option's value or the system: 1.
    Error(String),
    /// Options that do not go together: 2, as clap's own.
    Usage(String),
    /// A solver stopped before its tolerance; what it reached is written: 3.
    NotConverged(String),
    /// Ctrl-C or SIGTERM; what was reached is written: 130, as shells report it.
    Interrupted,
    /// The reader of standard output has gone: 141, as shells report it, and nothing is printed.
    Closed,
}

/// Result of all that can fail here.
pub type Done<T = ()> = Result<T, Failure>;

impl<E: std::error::Error> From<E> for Failure {
    fn from(e: E) -> Failure {
        Failure::Error(e.to_string())
    }
}

impl Failure {
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Error(_) => 1,
            Failure::Usage(_) => 2,
            Failure::NotConverged(_) => 3,
            Failure::Interrupted => 130,
            Failure::Closed => 141,
        })
    }
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::Error(m) | Failure::Usage(m) | Failure::NotConverged(m) => Some(m),
            Failure::Interrupted | Failure::Closed => None,
        }
    }
}

/// An error of the input.
pub fn error<T>(message: impl Into<String>) -> Done<T> {
    Err(Failure::Error(message.into()))
}
/// Options that do not go together.
pub fn usage<T>(message: impl Into<String>) -> Done<T> {
    Err(Failure::Usage(message.into()))
}

/// Says which file or option an error is about.
pub trait About<T> {
    fn about(self, what: impl std::fmt::Display) -> Done<T>;
}
impl<T, E: std::fmt::Display> About<T> for Result<T, E> {
    fn about(self, what: impl std::fmt::Display) -> Done<T> {
        self.map_err(|e| Failure::Error(format!("{what}: {e}")))
    }
}
