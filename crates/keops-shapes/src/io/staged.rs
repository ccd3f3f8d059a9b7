//! Files that are written whole, or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use keops_core::error::OutOfMemory;
use keops_core::memory;

/// Why a file was not written.
///
/// ```
/// use keops_shapes::builtin::icosphere;
/// use keops_shapes::io::{PointData, VtkEncoding, WriteError, write_vtk};
/// let (sphere, few) = (icosphere(0)?, ndarray::Array2::zeros((3, 1)));
/// let data = [PointData { name: "height", values: few.view() }];
/// let e = write_vtk("never.vtk", &sphere, &data, VtkEncoding::Ascii).unwrap_err();
/// assert!(matches!(e, WriteError::Data { vertices: 12, got: (3, 1), .. }));
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A data array does not fit the shape.
    #[error(
        "{}: data {name:?} must have {vertices} rows and 1 to 3 columns, got {got:?}",
        path.display()
    )]
    Data {
        /// The file that was to be written.
        path: PathBuf,
        /// Name of the array.
        name: String,
        /// Number of vertices of the shape.
        vertices: usize,
        /// Rows and columns given.
        got: (usize, usize),
    },
    /// The format has no place for the shape, or there is no such format.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file that was to be written.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// There is no memory for the content of a file.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Writes `bytes` as the file `path`: to a neighbouring temporary file first, which is brought to
/// the disk and renamed when complete, so that an interrupted run, a full disk or a loss of power
/// leaves the previous file or the new one, never half of one.
///
/// # Errors
/// [`WriteError::Io`].
///
/// ```
/// use keops_shapes::io::write_file;
/// let path = std::env::temp_dir().join(format!("keops-write-{}.txt", std::process::id()));
/// write_file(&path, b"first")?;
/// write_file(&path, b"second")?; // in its place
/// assert_eq!(std::fs::read(&path)?, b"second");
/// # std::fs::remove_file(&path)?;
/// let e = write_file("no/such/folder/x.txt", b"").unwrap_err();
/// assert!(e.to_string().starts_with("no/such/folder/x.txt: "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), WriteError> {
    let mut files = Staged::default();
    files.add(path, bytes)?;
    files.commit()
}

/// The file that `path` names, behind symbolic links. A device, a pipe or a folder is refused: the
/// renaming would put a file in its place.
fn target(path: &Path) -> Result<PathBuf, WriteError> {
    let failed = |source| WriteError::Io { path: path.into(), source };
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && path.is_symlink() => {
            std::fs::canonicalize(path).map_err(failed)
        }
        Ok(found) if found.is_file() => Ok(path.into()),
        Ok(_) => Err(failed(std::io::Error::other("not a regular file"))),
        // There is none yet; or a link to none, which the system is asked to make.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(link) => Ok(path.parent().unwrap_or(Path::new("")).join(link)),
            Err(_) => Ok(path.into()),
        },
        Err(e) => Err(failed(e)),
    }
}

/// Files that appear together: all of them are written and brought to the disk under temporary names
/// first, and renamed when all are complete. What is dropped before leaves nothing behind.
///
/// ```
/// use keops_shapes::io::Staged;
/// let folder = std::env::temp_dir().join(format!("keops-staged-{}", std::process::id()));
/// std::fs::create_dir_all(&folder)?;
/// let mut files = Staged::default();
/// files.add(folder.join("a.txt"), b"one")?;
/// files.add(folder.join("b.txt"), b"two")?;
/// assert!(!folder.join("a.txt").exists());
/// files.commit()?;
/// assert_eq!(std::fs::read(folder.join("b.txt"))?, b"two");
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Staged {
    /// Temporary and final names.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// Writes a file under a temporary name in its folder.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    ///
    /// ```
    /// use keops_shapes::io::Staged;
    /// let e = Staged::default().add("no/such/folder/x.txt", b"").unwrap_err();
    /// assert!(e.to_string().starts_with("no/such/folder/x.txt: "));
    /// ```
    pub fn add(&mut self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), WriteError> {
        let path = &target(path.as_ref())?;
        // Hidden, so that no viewer takes it for a file of a series.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        self.files.push((temporary.clone(), path.into()));
        let write = || {
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| WriteError::Io { path: path.into(), source })
    }

    /// Removes what processes that were killed while they wrote such files have left in a folder: the
    /// temporary files whose final names `ours` knows. Call it when no other process writes there.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    ///
    /// ```
    /// use keops_shapes::io::Staged;
    /// let folder = std::env::temp_dir().join(format!("keops-left-{}", std::process::id()));
    /// std::fs::create_dir_all(&folder)?;
    /// std::fs::write(folder.join(".a.txt.12.tmp"), "half of it")?;
    /// Staged::remove_leftovers(&folder, |name| name == "a.txt")?;
    /// assert!(!folder.join(".a.txt.12.tmp").exists());
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_leftovers(
        folder: impl AsRef<Path>,
        ours: impl Fn(&str) -> bool,
    ) -> Result<(), WriteError> {
        let folder = folder.as_ref();
        let failed = |source| WriteError::Io { path: folder.into(), source };
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stem = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp"));
            let of = stem.and_then(|n| n.rsplit_once('.'));
            let left = of.is_some_and(|(n, id)| id.parse::<u32>().is_ok() && ours(n));
            if left {
                std::fs::remove_file(&path).map_err(|source| WriteError::Io { path, source })?;
            }
        }
        Ok(())
    }

    /// Gives all files their names, in the order in which they were added.
    ///
    /// # Errors
    /// [`WriteError::Io`]; files before the one that is named have their new content, the others
    /// their old one.
    ///
    /// ```
    /// use keops_shapes::io::Staged;
    /// Staged::default().commit()?; // nothing
    /// # Ok::<(), keops_shapes::io::WriteError>(())
    /// ```
    pub fn commit(mut self) -> Result<(), WriteError> {
        let mut folders: Vec<PathBuf> = vec![];
        for (temporary, path) in &self.files {
            let failed = |source| WriteError::Io { path: path.clone(), source };
            std::fs::rename(temporary, path).map_err(failed)?;
            let folder = match path.parent() {
                Some(p) if !p.as_os_str().is_empty() => p.into(),
                _ => PathBuf::from("."),
            };
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        self.files.clear();
        // The new names reach the disk with their folders. (Where a folder cannot be opened as a file
        // the system does this by itself.)
        for folder in folders {
            if let Ok(folder) = std::fs::File::open(folder) {
                let _ = folder.sync_all();
            }
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (temporary, _) in &self.files {
            // Nothing better can be done when the removal fails too.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// The content of a file as it grows; memory that is refused is an error, also of what writes to it
/// as to a file.
///
/// ```
/// use keops_shapes::io::Buffer;
/// use std::io::Write;
/// let mut content = Buffer::default();
/// content.push(b"v 1 2 3")?;
/// write!(content, " {}", 4)?;
/// assert_eq!(content.into_bytes(), b"v 1 2 3 4");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
    /// What was written, as the memory that holds it.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
    /// Appends bytes.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), OutOfMemory> {
        let all = self.0.len() + bytes.len();
        self.0
            .try_reserve(bytes.len())
            .map_err(|_| memory::refused::<u8>(all, "the content of a file"))?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(bytes).map_err(|e| std::io::Error::new(std::io::ErrorKind::OutOfMemory, e))?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
