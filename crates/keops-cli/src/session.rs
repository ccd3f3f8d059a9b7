//! What all commands share: how much is said, where results go, and where reductions run.

use crate::failure::{About, Done, Failure, error};
use keops::Auto;
use keops::cpu::{Cpu, Level};
use keops::genred::Place;
use keops::spec::Device;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Options that every command takes.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Options of all commands")]
pub struct Session {
    /// Say nothing but results and errors; no progress bars
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print results as JSON, on one line
    #[arg(long, global = true)]
    pub json: bool,
    /// Replace files that exist
    #[arg(long, global = true)]
    pub force: bool,
    /// Threads to compute on [default: RAYON_NUM_THREADS, or all]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Instructions of the processor to use: avx512, avx2 or portable
    /// [default: the best there are, or a GPU for large problems]
    #[arg(long, global = true)]
    pub level: Option<Level>,
    /// Options from a TOML file; those of the command line come first
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write the options of this run to a TOML file, for --config
    #[arg(long, global = true, value_name = "FILE")]
    pub save_config: Option<PathBuf>,
}

static DEVICE: OnceLock<Device> = OnceLock::new();

/// Where reductions run: as --level says, else as the library chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen;
impl Place for Chosen {
    fn device(&self, pairs: u64) -> Device {
        DEVICE.get().cloned().unwrap_or_else(|| Auto.device(pairs))
    }
}

/// A formula as a function of arrays, run where the options say.
pub type Genred = keops::genred::Genred<Chosen>;

impl Session {
    /// Sets up threads and device. Once, before anything computes.
    pub fn begin(&self) -> Done {
        if let Some(threads) = self.threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
            pool.build_global().about("--threads")?;
        }
        if let Some(level) = self.level {
            let cpu = Cpu::with_level(level).about("--level (`keops doctor` says why)")?;
            DEVICE.get_or_init(|| Device::new(cpu));
        }
        Ok(())
    }
    /// A remark, to standard error. Whether it arrives has no part in the exit code.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
    /// The results, for people or for programs.
    pub fn report(&self, json: &Value, text: &str) -> Done {
        if self.json { say(&json.to_string()) } else { say(text) }
    }
    /// Are progress bars wanted? (They also need a terminal, which indicatif asks for.)
    pub fn shows_progress(&self) -> bool {
        !self.quiet && !self.json
    }
}

/// To standard output.
pub fn say(text: &str) -> Done {
    print_with(|out| {
        out.write_all(text.as_bytes())?;
        if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") }
    })
}
/// To standard output, in pieces.
pub fn print_with(f: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Done {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    f(&mut out).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Error(format!("standard output: {e}")),
    })
}

/// A file to be written: looked at before the work, and there only when it is complete.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    force: bool,
    /// Devices and pipes are written to directly.
    special: bool,
}

impl Destination {
    /// Is there a way to write the file? Nothing is left.
    pub fn new(path: &Path, session: &Session) -> Done<Destination> {
        let meta = std::fs::metadata(path);
        if meta.as_ref().is_ok_and(|m| m.is_dir()) {
            return error(format!("{}: is a folder, not a file", path.display()));
        }
        let special = meta.as_ref().is_ok_and(|m| !m.is_file());
        let own = Destination { path: path.into(), force: session.force, special };
        own.may_replace()?;
        if !special {
            let temporary = own.temporary();
            std::fs::File::create(&temporary).about(path.display())?;
            let _ = std::fs::remove_file(&temporary);
        }
        Ok(own)
    }
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The ending of the name in small letters, which says the format.
    pub fn extension(&self) -> String {
        self.path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
    }
    fn may_replace(&self) -> Done {
        // (A link that leads nowhere is something too.)
        if !self.force && !self.special && self.path.symlink_metadata().is_ok() {
            return error(format!(
                "{}: exists; --force replaces it, another name keeps it",
                self.path.display()
            ));
        }
        Ok(())
    }
    fn temporary(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.tmp", std::process::id()));
        self.path.with_file_name(name)
    }
    /// Writes the file and gives it its name.
    pub fn write(&self, f: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>) -> Done {
        if self.special {
            let mut file = std::fs::OpenOptions::new().write(true).open(&self.path);
            let file = file.as_mut().map_err(|e| std::io::Error::new(e.kind(), e.to_string()));
            return file.and_then(f).about(self.path.display());
        }
        let temporary = self.temporary();
        let made = std::fs::File::create(&temporary).and_then(|mut file| {
            f(&mut file)?;
            file.sync_all()
        });
        let done = made.about(self.path.display()).and_then(|()| {
            self.may_replace()?;
            std::fs::rename(&temporary, &self.path).about(self.path.display())
        });
        if done.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        done
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on Ctrl-C and SIGTERM are noted ([`interrupted`]); the second time they end the
/// program.
pub fn catch_interruption() -> Done {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        let _ = writeln!(std::io::stderr(), "stopping after this step (once more: at once)");
    })
    .about("the handler of Ctrl-C")
}
/// Was there a Ctrl-C?
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
