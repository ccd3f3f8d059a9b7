//! Runs the program in a folder of its own.
#![allow(dead_code)]

use ndarray::{Array, Array2, ArrayD, Dimension};
use ndarray_npy::{ReadableElement, WritableElement, read_npy, write_npy};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder, removed at the end.
pub struct Folder(PathBuf);
impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("keops-cli-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    /// Writes an array by another library than the program does.
    pub fn npy<T: WritableElement, D: Dimension>(&self, name: &str, array: &Array<T, D>) {
        write_npy(self.join(name), array).expect("an array is written");
    }
    pub fn text(&self, name: &str, text: &str) {
        fs::write(self.join(name), text).expect("a text is written");
    }
    pub fn read<T: ReadableElement>(&self, name: &str) -> ArrayD<T> {
        read_npy(self.join(name)).expect("an array that another library can read")
    }
    /// The program with these arguments, in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_keops"));
        c.args(arguments).current_dir(&self.0);
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        c
    }
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }
    /// Runs, must succeed; standard output.
    #[track_caller]
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    }
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.succeeds(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
    /// Runs, must fail with this code, say all of this, and not panic; standard error.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str], code: i32, says: &[&str]) -> String {
        let output = self.run(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains("error: ") && !told.contains("panicked"), "{told}");
        for says in says {
            assert!(told.contains(says), "{says:?} is not in: {told}");
        }
        told
    }
    /// Names of what is in the folder.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into()).collect();
        names.sort();
        names
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Points that have nothing to do with each other, in (-1, 1).
pub fn points(rows: usize, columns: usize, seed: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(k, c)| {
        let t = (k * (7 + 4 * c) + 31 * c + 17 * seed + 1) as f64;
        (1.7 * t).sin() * (0.3 * t + seed as f64).cos()
    })
}

#[track_caller]
pub fn near(got: &ArrayD<f64>, expected: &ArrayD<f64>, tolerance: f64) {
    assert_eq!(got.shape(), expected.shape());
    for (k, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * e.abs().max(1.0), "entry {k}: {g}, expected {e}");
    }
}

/// Data that the project shares; tests on it are skipped with a message where it is not there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}
