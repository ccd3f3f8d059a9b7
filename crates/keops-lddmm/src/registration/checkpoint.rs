//! Checkpoints: all that a registration knows between two iterations, in memory and in files.
//!
//! A file is a line (what it is, the version of the format, the length of the rest in bytes and its
//! CRC-32) and JSON, whose numbers have as many digits as give every bit back.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::problem::Registration;
use super::run::{Observer, Progress};
use crate::error::LddmmError;
use crate::io::{Buffer, WriteError, write_file};
use crate::optimise::State;
use crate::report::CostSplit;
use crate::shape::Shape;
use crate::sum::Real;

/// First words of a file.
const MAGIC: &str = "keops registration checkpoint";
/// Version of the format.
const VERSION: u32 = 1;

/// Why a checkpoint was not read or written.
///
/// ```
/// use keops_lddmm::registration::{Checkpoint, CheckpointError};
/// let e = Checkpoint::from_bytes(b"something else").unwrap_err();
/// assert!(matches!(e, CheckpointError::NotACheckpoint));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file could not be written; the one before it is still there.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The file is something else.
    #[error("not a checkpoint of a registration")]
    NotACheckpoint,
    /// The file was written by another version.
    #[error("the checkpoint has version {got} of its format; this program reads version {VERSION}")]
    Version {
        /// The version in the file.
        got: u32,
    },
    /// The file was cut or changed.
    #[error("the checkpoint is damaged: {what}")]
    Damaged {
        /// What does not fit.
        what: String,
    },
    /// The checkpoint could not be made.
    #[error(transparent)]
    Lddmm(#[from] LddmmError),
}

fn damaged(what: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged { what: what.into() }
}

/// What of a registration does not change during its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Context {
    /// What is minimised: names and values.
    problem: Vec<(String, String)>,
    device: String,
    /// Shape of the momenta.
    dim: (usize, usize),
    /// The cost at the very start.
    pub before: CostSplit,
    /// Time of the minimisation so far.
    pub elapsed: Duration,
}

fn crc(words: impl Iterator<Item = u64>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    words.for_each(|w| hasher.update(&w.to_le_bytes()));
    hasher.finalize()
}

fn described(shape: &Shape) -> String {
    let (n, m, cell) = (shape.vertex_count(), shape.cell_count(), shape.cells().name());
    let vertices = crc(shape.vertices().iter().map(|x| x.to_bits()));
    let cells = crc(shape.cells().corners().flatten().map(|&i| i as u64));
    format!("{n} vertices in {}D ({vertices:08x}), {m} {cell}s ({cells:08x})", shape.dim())
}

impl Context {
    pub(crate) fn new<F: Real>(
        registration: &Registration<F>,
        before: CostSplit,
        elapsed: Duration,
    ) -> Context {
        let o = registration.options();
        let control_points = match &o.deformation.control_points {
            None => "none".into(),
            Some(p) => format!("{} ({:08x})", p.nrows(), crc(p.iter().map(|x| x.to_bits()))),
        };
        let problem = [
            ("the source", described(registration.source())),
            ("the target", described(registration.target())),
            ("the kernel of the deformation", o.deformation.text.clone()),
            ("the attachment", o.attachment.to_string()),
            ("gamma", o.gamma.to_string()),
            ("the integrator", o.integrator.to_string()),
            ("the number of steps", o.steps.to_string()),
            ("the control points", control_points),
            ("the precision", F::DTYPE.name().into()),
            ("the memory of L-BFGS", o.limits.memory.to_string()),
        ];
        Context {
            problem: problem
                .map(|(name, value)| (name.to_string(), value))
                .into_iter()
                .chain(o.deformation.more.iter().cloned())
                .collect(),
            device: registration.device().into(),
            dim: registration.rest().q().dim(),
            before,
            elapsed,
        }
    }
}

/// All that is needed to go on with a registration as if it had not been interrupted
/// ([`Registration::resume`]): momenta, cost and gradient, the memory of L-BFGS, and what was
/// registered how (shapes and control points as checksums).
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// use keops_lddmm::registration::Checkpoint;
/// let checkpoint = registration.run(None, &mut silent)?.checkpoint;
/// let path = std::env::temp_dir().join(format!("keops-checkpoint-{}", std::process::id()));
/// checkpoint.write(&path)?;
/// assert_eq!(Checkpoint::read(&path)?, checkpoint); // every bit
/// assert_eq!((checkpoint.iterations(), checkpoint.momenta().dim()), (4, (12, 2)));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    context: Context,
    state: State,
}

impl Checkpoint {
    pub(crate) fn new(
        context: &Context,
        state: &State,
        elapsed: Duration,
    ) -> Result<Checkpoint, LddmmError> {
        let context = Context { elapsed, ..context.clone() };
        Ok(Checkpoint { context, state: state.copy()? })
    }
    /// Iterations made.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// assert_eq!(registration.run(None, &mut silent)?.checkpoint.iterations(), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iterations(&self) -> usize {
        self.state.iterations
    }
    /// The cost reached.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let outcome = registration.run(None, &mut silent)?;
    /// assert_eq!(outcome.checkpoint.cost(), outcome.report.after.cost);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cost(&self) -> f64 {
        self.state.value.cost
    }
    /// The momenta reached, shape (n, d).
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let outcome = registration.run(None, &mut silent)?;
    /// assert_eq!(outcome.checkpoint.momenta(), outcome.momenta);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn momenta(&self) -> ArrayView2<'_, f64> {
        match self.state.point.view().into_shape_with_order(self.context.dim) {
            Ok(rows) => rows,
            Err(_) => unreachable!("checked when it was made or read"),
        }
    }
    /// What the reductions ran on.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let outcome = registration.run(None, &mut silent)?;
    /// assert_eq!(outcome.checkpoint.device(), registration.device());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn device(&self) -> &str {
        &self.context.device
    }

    pub(crate) fn state(&self) -> Result<State, LddmmError> {
        self.state.copy()
    }
    /// The context, if this is a checkpoint of `registration`.
    pub(crate) fn context_for<F: Real>(
        &self,
        registration: &Registration<F>,
    ) -> Result<Context, LddmmError> {
        let own = Context::new(registration, self.context.before, self.context.elapsed);
        for (wanted, have) in own.problem.iter().zip(&self.context.problem) {
            if wanted != have {
                let what = format!("{} of the checkpoint", wanted.0);
                return Err(LddmmError::mismatch(what, &wanted.1, &have.1));
            }
        }
        let (wanted, have) = (own.dim, self.context.dim);
        if own.problem.len() != self.context.problem.len() || wanted != have {
            let what = "the momenta of the checkpoint";
            return Err(LddmmError::mismatch(what, format!("{wanted:?}"), format!("{have:?}")));
        }
        Ok(own)
    }

    /// The content of a file.
    ///
    /// # Errors
    /// When there is no memory for it.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let bytes = registration.run(None, &mut silent)?.checkpoint.to_bytes()?;
    /// assert!(bytes.starts_with(b"keops registration checkpoint 1 "));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        let refused = |e: &dyn std::fmt::Display| {
            LddmmError::mismatch("the checkpoint", "memory to write it into", e)
        };
        let mut json = Buffer::default();
        serde_json::to_writer(&mut json, self).map_err(|e| refused(&e))?;
        let mut all = Buffer::default();
        let (length, sum) = (json.bytes().len(), crc32fast::hash(json.bytes()));
        all.push(format!("{MAGIC} {VERSION} {length} {sum:08x}\n").as_bytes())
            .and_then(|()| all.push(json.bytes()))
            .map_err(LddmmError::from)?;
        Ok(all.into_bytes())
    }
    /// The checkpoint in the content of a file.
    ///
    /// # Errors
    /// [`CheckpointError`]: something else, another version, cut or changed content.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// use keops_lddmm::registration::Checkpoint;
    /// let bytes = registration.run(None, &mut silent)?.checkpoint.to_bytes()?;
    /// assert!(Checkpoint::from_bytes(&bytes).is_ok());
    /// let e = Checkpoint::from_bytes(&bytes[..bytes.len() - 1]).unwrap_err();
    /// assert!(e.to_string().starts_with("the checkpoint is damaged: "));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(CheckpointError::NotACheckpoint)?;
        let end = rest.iter().take(100).position(|&b| b == b'\n');
        let end = end.ok_or_else(|| damaged("its first line is cut"))?;
        let line = String::from_utf8_lossy(&rest[..end]);
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let version = words.first().and_then(|w| w.parse().ok());
        match version {
            Some(VERSION) => {}
            Some(got) => return Err(CheckpointError::Version { got }),
            None => return Err(damaged("its first line has no version")),
        }
        let (Some(length), Some(sum)) = (
            words.get(1).and_then(|w| w.parse::<usize>().ok()),
            words.get(2).and_then(|w| u32::from_str_radix(w, 16).ok()),
        ) else {
            return Err(damaged("its first line has no length and checksum"));
        };
        let json = &rest[end + 1..];
        if json.len() != length {
            return Err(damaged(format!("{length} bytes announced, {} found", json.len())));
        }
        if crc32fast::hash(json) != sum {
            return Err(damaged("its checksum is another one"));
        }
        let read: Checkpoint = serde_json::from_slice(json).map_err(|e| damaged(e.to_string()))?;
        let (n, d) = read.context.dim;
        if n.checked_mul(d).is_none_or(|length| !read.state.is_sound(length)) {
            return Err(damaged("its numbers are not finite or not as many as announced"));
        }
        Ok(read)
    }
    /// Writes a file, in the place of one before it only when it is complete
    /// ([`crate::io::write_file`]).
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; the file before it is still there.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// let checkpoint = registration.run(None, &mut silent)?.checkpoint;
    /// let e = checkpoint.write("no/such/folder/state").unwrap_err();
    /// assert!(e.to_string().starts_with("no/such/folder/state: "));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        Ok(write_file(path, &self.to_bytes()?)?)
    }
    /// Reads a file.
    ///
    /// # Errors
    /// [`CheckpointError`].
    ///
    /// ```
    /// use keops_lddmm::registration::{Checkpoint, CheckpointError};
    /// let e = Checkpoint::read("no/such/file").unwrap_err();
    /// assert!(matches!(e, CheckpointError::Read { .. }));
    /// ```
    pub fn read(path: impl AsRef<Path>) -> Result<Checkpoint, CheckpointError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .map_err(|source| CheckpointError::Read { path: path.into(), source })?;
        Checkpoint::from_bytes(&bytes)
    }
}

/// How often to save.
///
/// ```
/// use keops_lddmm::registration::Every;
/// use std::time::Duration;
/// assert_ne!(Every::Iterations(10), Every::Time(Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// After this many iterations.
    Iterations(usize),
    /// After the first iteration that ends at least this long after the last time.
    Time(Duration),
}

/// An observer that saves a checkpoint every so often and passes everything on to another one.
///
/// A checkpoint that cannot be written does not end the run: the last one that could be is still
/// there, and the error is kept.
///
/// ```
#[doc = include_str!("../registration_example.txt")]
/// use keops_lddmm::registration::{Autosave, Checkpoint, Every};
/// let path = std::env::temp_dir().join(format!("keops-autosave-{}", std::process::id()));
/// let mut saving = Autosave::new(&path, Every::Iterations(3), &mut silent);
/// registration.run(None, &mut saving)?; // 4 iterations
/// assert!(saving.failure().is_none());
/// assert_eq!(Checkpoint::read(&path)?.iterations(), 3);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Autosave<'o> {
    path: PathBuf,
    every: Every,
    then: &'o mut dyn Observer,
    last: Instant,
    failure: Option<CheckpointError>,
}

impl<'o> Autosave<'o> {
    /// Saves to a file, and passes on to `then`.
    ///
    /// ```
    /// use keops_lddmm::registration::{Autosave, Every, Progress};
    /// use std::{ops::ControlFlow, time::Duration};
    /// let mut silent = |_: &Progress<'_>| ControlFlow::Continue(());
    /// let every = Every::Time(Duration::from_secs(60));
    /// assert!(Autosave::new("state", every, &mut silent).failure().is_none());
    /// ```
    pub fn new(path: impl Into<PathBuf>, every: Every, then: &'o mut dyn Observer) -> Autosave<'o> {
        Autosave { path: path.into(), every, then, last: Instant::now(), failure: None }
    }
    /// Why the last checkpoint was not written, if so.
    ///
    /// ```
    #[doc = include_str!("../registration_example.txt")]
    /// use keops_lddmm::registration::{Autosave, Every};
    /// let mut saving = Autosave::new("no/such/folder/x", Every::Iterations(1), &mut silent);
    /// let outcome = registration.run(None, &mut saving)?; // goes on all the same
    /// assert!(saving.failure().is_some() && outcome.report.iterations == 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn failure(&self) -> Option<&CheckpointError> {
        self.failure.as_ref()
    }
}

impl Observer for Autosave<'_> {
    fn iteration(&mut self, progress: &Progress<'_>) -> ControlFlow<()> {
        let due = match self.every {
            Every::Iterations(n) => progress.iteration.is_multiple_of(n.max(1)),
            Every::Time(t) => self.last.elapsed() >= t,
        };
        if due {
            let saved = progress.checkpoint().map_err(CheckpointError::from);
            self.failure = saved.and_then(|c| c.write(&self.path)).err();
            self.last = Instant::now();
        }
        self.then.iteration(progress)
    }
    fn evaluation(&mut self, made: usize) -> ControlFlow<()> {
        self.then.evaluation(made)
    }
}
