//! NVRTC, NVIDIA's run-time compiler, loaded where it is needed: it may be absent, and it needs no
//! GPU.

use keops_core::error::CompileError;
use keops_core::spec::Unavailable;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

/// The variable that names the library, or the folder that has it.
pub const PATH_VARIABLE: &str = "KEOPS_NVRTC_PATH";

/// Names under which the library is looked for, newest first.
const NAMES: &[&str] = if cfg!(windows) {
    &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
} else {
    &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
};

/// Where toolkits put it, beside the folders that the system searches.
const FOLDERS: &[&str] = &["/usr/local/cuda/lib64", "/opt/cuda/lib64"];

type Program = *mut c_void;
/// `nvrtcResult`: 0 is success.
type Status = c_int;

/// A loaded NVRTC. It compiles on machines without a GPU.
///
/// ```
/// use keops_cuda::nvrtc::Nvrtc;
/// match Nvrtc::load() {
///     Ok(nvrtc) => println!("{nvrtc:?}"),
///     Err(e) => assert!(e.to_string().starts_with("cuda is not available: ")),
/// }
/// ```
pub struct Nvrtc {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    error: unsafe extern "C" fn(Status) -> *const c_char,
    version: (i32, i32),
    origin: String,
    /// The functions above are of the first of these.
    _libraries: Vec<Library>,
}

impl std::fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NVRTC {}.{} from {}", self.version.0, self.version.1, self.origin)
    }
}

/// What a kernel needs of a multiprocessor, as the assembler reports it.
///
/// ```
/// use keops_cuda::nvrtc::{Nvrtc, Usage};
/// if let Ok(nvrtc) = Nvrtc::load() {
///     let source = r#"extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2.0f; }"#;
///     let made = nvrtc.compile(source, "sm_90")?;
///     let [Usage { kernel, spills, .. }] = &made.usage[..] else { unreachable!("one kernel") };
///     assert_eq!((&kernel[..], *spills), ("twice", (0, 0)));
/// }
/// # Ok::<(), keops_core::error::CompileError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Name of the kernel.
    pub kernel: String,
    /// 32-bit registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's stack frame (local arrays, spilled registers).
    pub stack: u32,
    /// Bytes of registers that are spilled: stored and loaded.
    pub spills: (u32, u32),
    /// Bytes of shared memory.
    pub shared: u32,
}

/// A compiled translation unit.
///
/// ```
/// use keops_cuda::nvrtc::Nvrtc;
/// if let Ok(nvrtc) = Nvrtc::load() {
///     let made = nvrtc.compile("__global__ void nothing() {}", "sm_80")?;
///     assert!(made.cubin.starts_with(b"\x7fELF"));
/// }
/// # Ok::<(), keops_core::error::CompileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Binary {
    /// Machine code for one architecture.
    pub cubin: Vec<u8>,
    /// What each kernel needs.
    pub usage: Vec<Usage>,
    /// The compiler's log.
    pub log: String,
}

impl Nvrtc {
    /// Loads the library: from [`PATH_VARIABLE`] if it is set, else from where systems have it.
    ///
    /// # Errors
    /// [`Unavailable`] with what was tried and what to do.
    ///
    /// ```
    /// use keops_cuda::nvrtc::{Nvrtc, PATH_VARIABLE};
    /// if let Err(e) = Nvrtc::load() {
    ///     assert!(e.reason.contains(PATH_VARIABLE)); // what to do
    /// }
    /// ```
    pub fn load() -> Result<Nvrtc, Unavailable> {
        let given = std::env::var_os(PATH_VARIABLE).map(PathBuf::from);
        Self::load_from(given.as_deref())
    }
    /// Loads the library from a file or folder, or from where systems have it.
    ///
    /// # Errors
    /// As [`Nvrtc::load`].
    ///
    /// ```
    /// use keops_cuda::nvrtc::Nvrtc;
    /// let e = Nvrtc::load_from(Some("/no/such/libnvrtc.so".as_ref())).unwrap_err();
    /// assert!(e.to_string().contains("/no/such/libnvrtc.so"));
    /// ```
    pub fn load_from(given: Option<&Path>) -> Result<Nvrtc, Unavailable> {
        let candidates: Vec<PathBuf> = match given {
            Some(p) if p.is_dir() => NAMES.iter().map(|n| p.join(n)).collect(),
            Some(p) => vec![p.to_path_buf()],
            None => {
                let folders =
                    FOLDERS.iter().flat_map(|f| NAMES.iter().map(move |n| Path::new(f).join(n)));
                NAMES.iter().map(PathBuf::from).chain(folders).collect()
            }
        };
        let mut tried = vec![];
        for path in candidates {
            match Self::open(&path) {
                Ok(n) => return Ok(n),
                Err(e) => tried.push(format!("{}: {e}", path.display())),
            }
        }
        Err(Unavailable {
            backend: "cuda".into(),
            reason: format!(
                "the NVRTC library could not be loaded ({}); install the CUDA toolkit (12 or 13) or the Python \
                 package nvidia-cuda-nvrtc, and set {PATH_VARIABLE} to the library or its folder",
                tried.join("; ")
            ),
        })
    }
    fn open(path: &Path) -> Result<Nvrtc, libloading::Error> {
        // NVRTC loads this second library by its bare name: it is found if it is loaded already.
        let beside = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
        let builtins = beside.into_iter().flatten().flatten().filter(|f| {
            let name = f.file_name();
            let name = name.to_string_lossy();
            name.contains("nvrtc-builtins") && !name.contains(".alt.")
        });
        // SAFETY: a library of functions and data without initialisers of consequence.
        let builtins = builtins.filter_map(|f| unsafe { Library::new(f.path()) }.ok());
        // SAFETY: loading NVRTC runs its initialisers, which do nothing but set up its own state;
        // the functions have the types of nvrtc.h, unchanged since CUDA 11.1, and the library
        // lives as long as they do, in the same struct.
        unsafe {
            let library = Library::new(path)?;
            let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status =
                *library.get(b"nvrtcVersion\0")?;
            let (mut major, mut minor) = (0, 0);
            version(&mut major, &mut minor);
            Ok(Nvrtc {
                create: *library.get(b"nvrtcCreateProgram\0")?,
                destroy: *library.get(b"nvrtcDestroyProgram\0")?,
                compile: *library.get(b"nvrtcCompileProgram\0")?,
                log_size: *library.get(b"nvrtcGetProgramLogSize\0")?,
                log: *library.get(b"nvrtcGetProgramLog\0")?,
                cubin_size: *library.get(b"nvrtcGetCUBINSize\0")?,
                cubin: *library.get(b"nvrtcGetCUBIN\0")?,
                error: *library.get(b"nvrtcGetErrorString\0")?,
                version: (major, minor),
                origin: path.display().to_string(),
                _libraries: std::iter::once(library).chain(builtins).collect(),
            })
        }
    }
    /// Version, as `(13, 0)`.
    ///
    /// ```
    /// use keops_cuda::nvrtc::Nvrtc;
    /// if let Ok(nvrtc) = Nvrtc::load() {
    ///     assert!(nvrtc.version() >= (11, 1)); // the first that makes machine code
    /// }
    /// ```
    pub fn version(&self) -> (i32, i32) {
        self.version
    }
    /// Compiles CUDA C++ for an architecture such as `sm_90`.
    ///
    /// # Errors
    /// [`CompileError::Failed`] with the compiler's log.
    ///
    /// ```
    /// use keops_core::error::CompileError;
    /// use keops_cuda::nvrtc::Nvrtc;
    /// if let Ok(nvrtc) = Nvrtc::load() {
    ///     let e = nvrtc.compile("__global__ void f() { undeclared(); }", "sm_90").unwrap_err();
    ///     assert!(matches!(e, CompileError::Failed { log, .. } if log.contains("undeclared")));
    /// }
    /// ```
    pub fn compile(&self, source: &str, architecture: &str) -> Result<Binary, CompileError> {
        let failed = |log: String| CompileError::Failed { backend: "cuda".into(), log };
        let options = [
            format!("--gpu-architecture={architecture}"),
            // Products and sums are contracted by the lowering, the same for every instance of an
            // expression.
            "--fmad=false".into(),
            "--std=c++17".into(),
            "--ptxas-options=-v".into(),
        ];
        let text = |s: &str| CString::new(s).map_err(|e| failed(e.to_string()));
        let options = options.iter().map(|o| text(o)).collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let (source, name) = (text(source)?, c"keops.cu");
        let mut unit = Unit { nvrtc: self, program: ptr::null_mut() };
        // SAFETY: the strings are terminated and outlive the call; no headers are passed.
        let status = unsafe {
            (self.create)(
                &mut unit.program,
                source.as_ptr(),
                name.as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            )
        };
        self.check(status).map_err(failed)?;
        // SAFETY: the program was created above, the options outlive the call.
        let status =
            unsafe { (self.compile)(unit.program, pointers.len() as c_int, pointers.as_ptr()) };
        let log = unit.bytes(self.log_size, self.log).map_err(failed)?;
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_string();
        self.check(status).map_err(|e| failed(format!("{e}\n{log}")))?;
        let cubin = unit.bytes(self.cubin_size, self.cubin).map_err(failed)?;
        Ok(Binary { cubin, usage: usage(&log), log })
    }
    fn check(&self, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: it returns a static string for every code.
        let message = unsafe { CStr::from_ptr((self.error)(status)) };
        Err(message.to_string_lossy().into_owned())
    }
}

/// A program that is destroyed at the end.
struct Unit<'n> {
    nvrtc: &'n Nvrtc,
    program: Program,
}

impl Unit<'_> {
    fn bytes(
        &self,
        size: unsafe extern "C" fn(Program, *mut usize) -> Status,
        get: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ) -> Result<Vec<u8>, String> {
        let mut n = 0;
        // SAFETY: the program exists as long as `self`.
        self.nvrtc.check(unsafe { size(self.program, &mut n) })?;
        // A log has at least the zero at its end, which is written also if the size does not say so.
        let mut bytes = vec![0u8; n.max(1)];
        // SAFETY: as above; the vector has the size that was asked for.
        self.nvrtc.check(unsafe { get(self.program, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: it was created and is not used any more.
            unsafe { (self.nvrtc.destroy)(&mut self.program) };
        }
    }
}

/// Reads the report that `ptxas -v` leaves in the log.
fn usage(log: &str) -> Vec<Usage> {
    let mut all: Vec<Usage> = vec![];
    let before = |line: &str, what: &str| -> Option<u32> {
        line[..line.find(what)?].split_whitespace().last()?.parse().ok()
    };
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let kernel = rest.split('\'').next().unwrap_or("").to_string();
            all.push(Usage { kernel, registers: 0, stack: 0, spills: (0, 0), shared: 0 });
        }
        let Some(last) = all.last_mut() else { continue };
        if let Some(stack) = before(line, " bytes stack frame") {
            last.stack = stack;
            last.spills = (
                before(line, " bytes spill stores").unwrap_or(0),
                before(line, " bytes spill loads").unwrap_or(0),
            );
        }
        // The report of the entry function itself; functions it calls have their own lines.
        if line.contains("Used ") {
            last.registers = before(line, " registers").unwrap_or(0);
            last.shared = before(line, " bytes smem").unwrap_or(0);
        }
    }
    all
}
