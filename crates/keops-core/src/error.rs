//! Errors, one narrow type per stage. Functions return the narrowest one that they can raise.

use std::fmt;

/// A byte range of a formula string.
///
/// ```
/// use keops_core::parse::parse_formula;
/// let text = "x + Foo(y)";
/// let e = parse_formula(text, None, &["x = Vi(3)", "y = Vj(3)"]).unwrap_err();
/// assert_eq!(&text[e.span.start..e.span.end], "Foo");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// An operation was given operands that it cannot take.
///
/// ```
/// use keops_core::error::DimError;
/// use keops_core::graph::{Builder, Category};
/// use keops_core::composite;
/// let b = Builder::default();
/// let norm = composite::by_name("MatDet").unwrap();
/// let e: DimError = (norm.build)(&[b.fresh(3, Category::I)], &[]).unwrap_err();
/// assert_eq!(e.op, "MatDet"); // 3 is no square
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{op}: expected {expected}, got {got}")]
pub struct DimError {
    /// Operation as it is called in formulas.
    pub op: String,
    /// What the operation takes.
    pub expected: String,
    /// What it was given.
    pub got: String,
}

impl DimError {
    /// An error of operation `op`.
    ///
    /// ```
    /// use keops_core::error::DimError;
    /// let e = DimError::new("Sum", "1 operand", 2);
    /// assert_eq!(e.to_string(), "Sum: expected 1 operand, got 2");
    /// ```
    pub fn new(op: &str, expected: impl Into<String>, got: impl fmt::Display) -> Self {
        DimError { op: op.to_string(), expected: expected.into(), got: got.to_string() }
    }
}

/// A formula string could not be read. The message shows the formula with a caret.
///
/// ```
/// use keops_core::parse::parse_formula;
/// let e = parse_formula("x + (y", None, &["x = Vi(3)", "y = Vj(3)"]).unwrap_err();
/// let shown = e.to_string();
/// let lines: Vec<&str> = shown.lines().collect();
/// assert_eq!(lines[1], "  | x + (y");
/// assert!(lines[2].ends_with('^'));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// The whole text.
    pub text: String,
    /// Where in the text.
    pub span: Span,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.message)?;
        // Long texts are cut around the place; columns are counted in characters.
        let line_start =
            self.text[..self.span.start.min(self.text.len())].rfind('\n').map_or(0, |p| p + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        let before = self.text.get(line_start..self.span.start).unwrap_or("").chars().count();
        let width = self.text.get(self.span.start..self.span.end).unwrap_or("").chars().count();
        let skip = before.saturating_sub(60);
        let shown: String = line.chars().skip(skip).take(120).collect();
        writeln!(f, "  | {shown}")?;
        let carets = width.clamp(1, 120);
        write!(f, "  | {}{}", " ".repeat(before - skip), "^".repeat(carets))
    }
}
impl std::error::Error for ParseError {}

/// A derivative was asked for that does not exist.
///
/// ```
/// use keops_core::{error::GradError, genred::Genred, reduce::{ARG_MIN, SUM}, spec::Axis};
/// let sum: Genred = Genred::new("x", ["x = Vi(1)"], &SUM, Axis::J)?;
/// assert!(matches!(sum.vjp("y"), Err(GradError::UnknownVariable { name, .. }) if name == "y"));
/// let nearest: Genred = Genred::new("x", ["x = Vi(1)"], &ARG_MIN, Axis::J)?;
/// assert!(matches!(nearest.vjp("x"), Err(GradError::NotDifferentiable { .. })));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GradError {
    /// No variable of that name.
    #[error("no variable named `{name}`; the variables are {known}")]
    UnknownVariable {
        /// Name asked for.
        name: String,
        /// Names there are.
        known: String,
    },
    /// The output cannot be differentiated.
    #[error("{what} has no derivative: {reason}")]
    NotDifferentiable {
        /// The reduction or operation.
        what: String,
        /// Why.
        reason: String,
    },
    /// Operands of the derivative do not fit.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// The derivative is too large, as happens to derivatives of derivatives of derivatives.
    #[error("the formulas of this derivative have more than {limit} nodes")]
    TooLarge {
        /// [`crate::graph::MAX_NODES`]
        limit: usize,
    },
}

/// Memory that grows with the data could not be had.
///
/// ```
/// use keops_core::error::OutOfMemory;
/// let e = OutOfMemory { what: "the result".into(), bytes: 1 << 40 };
/// assert_eq!(e.to_string(), "out of memory: 1099511627776 bytes for the result");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("out of memory: {bytes} bytes for {what}")]
pub struct OutOfMemory {
    /// What for.
    pub what: String,
    /// How many bytes.
    pub bytes: usize,
}

/// An argument, a range or an option does not fit the formula.
///
/// ```
/// use keops_core::error::{Error, InputError};
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use ndarray::Array2;
/// let sum: Genred = Genred::new("x * y", ["x = Vi(3)", "y = Vj(3)"], &SUM, Axis::J)?;
/// let e = sum.call((&Array2::<f32>::zeros((5, 3)), &Array2::zeros((7, 2)))).unwrap_err();
/// let Error::Input(InputError::Shape { name, got, .. }) = e else { unreachable!("{e}") };
/// assert_eq!((name.as_str(), &got[..]), ("y", &[7, 2][..]));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InputError {
    /// Wrong number of arguments.
    #[error("expected {expected} arguments ({names}), got {got}")]
    Count {
        /// How many the formula has.
        expected: usize,
        /// Their names in order.
        names: String,
        /// How many were given.
        got: usize,
    },
    /// Wrong shape of one argument.
    #[error("argument `{name}`: expected {expected}, got shape {got:?}")]
    Shape {
        /// Variable.
        name: String,
        /// What was expected, in words.
        expected: String,
        /// Shape given.
        got: Vec<usize>,
    },
    /// Element types differ.
    #[error("argument `{name}`: expected element type {expected}, got {got}")]
    Type {
        /// Variable.
        name: String,
        /// Type of the other arguments.
        expected: String,
        /// Type given.
        got: String,
    },
    /// Two arguments disagree about a size.
    #[error(
        "argument `{name}` has {got} {what}, but `{other}` has {expected}{}",
        other_index(name, other, what)
    )]
    Disagree {
        /// Variable.
        name: String,
        /// Rows, batches …
        what: String,
        /// Variable it disagrees with.
        other: String,
        /// Size of the other.
        expected: usize,
        /// Size given.
        got: usize,
    },
    /// Nothing says how many rows there are.
    #[error("no argument gives the number of {what}; {hint}")]
    NoSize {
        /// Which rows.
        what: String,
        /// What to do.
        hint: String,
    },
    /// An array that another device holds.
    #[error(
        "argument `{name}` is held by another device ({held}) than the one that runs this \
         ({runs}): `upload` the array to this device, or pass what `to_host` returns"
    )]
    Elsewhere {
        /// Variable.
        name: String,
        /// Backend of the device that holds it.
        held: String,
        /// Backend of the device that runs the reduction.
        runs: String,
    },
    /// Block-sparse ranges are inconsistent.
    #[error("ranges: {0}")]
    Ranges(String),
    /// An option is out of its domain or forbidden here.
    #[error("{0}")]
    Option(String),
    /// A size overflows the address space.
    #[error("{what}: the size {detail} is too large")]
    TooLarge {
        /// What would be that large.
        what: String,
        /// The factors.
        detail: String,
    },
    /// There is no room for ranges, or for what they are checked with.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// What may have been meant where two arrays of one index have other rows.
fn other_index(name: &str, other: &str, what: &str) -> &'static str {
    let both = |keyword: &str| name.starts_with(keyword) && other.starts_with(keyword);
    match what {
        "rows" if both("Vi(") => "; is one of them `vj`, or `pm` for a single row?",
        "rows" if both("Vj(") => "; is one of them `vi`, or `pm` for a single row?",
        _ => "",
    }
}

/// A formula could not be made into code. Always names what is not supported and where.
///
/// ```
/// use keops_core::error::CompileError;
/// let e = CompileError::Limit { what: "the number of values".into(), limit: 100, got: 250 };
/// assert_eq!(e.to_string(), "the number of values is 250, the limit is 100");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// The backend has no way to run this.
    #[error("{backend}: {reason}")]
    Unsupported {
        /// Backend.
        backend: String,
        /// Why.
        reason: String,
    },
    /// A limit of the system was reached.
    #[error("{what} is {got}, the limit is {limit}")]
    Limit {
        /// What is limited.
        what: String,
        /// Limit.
        limit: usize,
        /// Value met.
        got: usize,
    },
    /// The compiler of the backend reported a failure.
    #[error("{backend}: compilation failed\n{log}")]
    Failed {
        /// Backend.
        backend: String,
        /// Its log.
        log: String,
    },
}

/// A compiled object failed while running.
///
/// ```
/// use keops_core::error::{OutOfMemory, RunError};
/// let e: RunError = OutOfMemory { what: "the result".into(), bytes: 64 }.into();
/// assert!(matches!(e, RunError::OutOfMemory { bytes: 64, .. }));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunError {
    /// Memory could not be had.
    #[error("out of memory: {bytes} bytes for {what}")]
    OutOfMemory {
        /// What for.
        what: String,
        /// How many bytes.
        bytes: usize,
    },
    /// The device failed.
    #[error("{backend}: {message}")]
    Device {
        /// Backend.
        backend: String,
        /// What it said.
        message: String,
    },
}

/// An error of a type that this crate does not know, from a function that another crate defines.
/// Two are equal if they are clones of one.
///
/// ```
/// use keops_core::error::Foreign;
/// let e = Foreign::new(std::fmt::Error);
/// assert!(e.downcast_ref::<std::fmt::Error>().is_some());
/// assert_eq!(e, e.clone());
/// ```
#[derive(Clone, Debug)]
pub struct Foreign(std::sync::Arc<dyn std::error::Error + Send + Sync>);

impl Foreign {
    /// Keeps an error.
    pub fn new(e: impl std::error::Error + Send + Sync + 'static) -> Foreign {
        Foreign(std::sync::Arc::new(e))
    }
    pub(crate) fn message(m: String) -> Foreign {
        Foreign(Box::<dyn std::error::Error + Send + Sync>::from(m).into())
    }
    /// The error, if it has this type.
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}
impl PartialEq for Foreign {
    fn eq(&self, other: &Foreign) -> bool {
        std::sync::Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Foreign {}
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl std::error::Error for Foreign {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<OutOfMemory> for RunError {
    fn from(OutOfMemory { what, bytes }: OutOfMemory) -> RunError {
        RunError::OutOfMemory { what, bytes }
    }
}
impl From<OutOfMemory> for FormulaError {
    fn from(e: OutOfMemory) -> FormulaError {
        FormulaError::Run(e.into())
    }
}

/// Any error of formulas and reductions.
///
/// ```
/// use keops_core::error::FormulaError;
/// use keops_core::genred::{Genred, Reference};
/// use keops_core::{reduce::SUM, spec::Axis};
/// let sum = |formula| Genred::<Reference>::new(formula, ["x = Vi(3)"], &SUM, Axis::J);
/// assert!(matches!(sum("x +"), Err(FormulaError::Parse(_))));
/// let wrong = sum("x")?.call((&ndarray::array![[1.0]],)); // of dimension 1
/// assert!(matches!(wrong, Err(FormulaError::Input(_))));
/// # Ok::<(), keops_core::error::FormulaError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormulaError {
    /// See [`ParseError`].
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// See [`DimError`].
    #[error(transparent)]
    Dim(#[from] DimError),
    /// See [`GradError`].
    #[error(transparent)]
    Grad(#[from] GradError),
    /// See [`InputError`].
    #[error(transparent)]
    Input(#[from] InputError),
    /// See [`CompileError`].
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// See [`RunError`].
    #[error(transparent)]
    Run(#[from] RunError),
    /// From a function that another crate defines ([`crate::outer::Function`]).
    #[error("{name}: {source}")]
    Function {
        /// Name of the function.
        name: String,
        /// What went wrong.
        source: Foreign,
    },
    /// An operator of a `LazyTensor` expression failed; `location` is in the caller's source.
    #[error("{source} (in the expression at {location})")]
    Lazy {
        /// `file:line:column` of the operator.
        location: String,
        /// What was wrong.
        source: Box<FormulaError>,
    },
}

/// The short name of [`FormulaError`] within these crates.
pub type Error = FormulaError;

impl Error {
    /// An error of the function `name`, which another crate defines.
    ///
    /// ```
    /// use keops_core::error::Error;
    /// let e = Error::function("Sinkhorn", std::fmt::Error);
    /// let Error::Function { source, .. } = &e else { unreachable!() };
    /// assert!(source.downcast_ref::<std::fmt::Error>().is_some());
    /// ```
    pub fn function(name: &str, e: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Function { name: name.into(), source: Foreign::new(e) }
    }
}
