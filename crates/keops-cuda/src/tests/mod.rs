//! Checks that need no GPU: generated code compiles for several architectures, and does on the CPU
//! what the reference interpreter does.

mod emulate;
mod golden;
mod offline;
mod witness;

use crate::nvrtc::{Nvrtc, PATH_VARIABLE};
use keops_core::spec::Backend;

/// NVRTC, or a note why the test does nothing.
fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::load() {
        Ok(n) => Some(n),
        Err(e) => {
            // Where the variable is set, its library has to be there.
            assert!(std::env::var_os(PATH_VARIABLE).is_none(), "{e}");
            println!("skipped: {e}");
            None
        }
    }
}

#[test]
fn absent_driver_is_an_error_value() {
    // SAFETY: it only tries to load the driver's library.
    if unsafe { cudarc::driver::sys::is_culib_present() } {
        println!("skipped: this machine has a driver");
        return;
    }
    let cuda = crate::Cuda::new();
    let e = cuda.check().unwrap_err();
    assert_eq!(e.backend, "cuda");
    assert!(e.reason.contains("libcuda"), "{e}");
    let spec = &witness::all()[0].spec;
    let e = cuda.compile(spec).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains("driver"), "{e}");
    assert_eq!(cuda.target(), "cuda");
}

#[test]
fn absent_compiler_is_an_error_value() {
    let e = Nvrtc::load_from(Some(std::path::Path::new("/nonexistent/libnvrtc.so"))).unwrap_err();
    assert!(
        e.reason.contains("/nonexistent/libnvrtc.so") && e.reason.contains(PATH_VARIABLE),
        "{e}"
    );
}

#[test]
fn compiler_errors_carry_the_log() {
    let Some(nvrtc) = nvrtc() else { return };
    let e =
        nvrtc.compile("__global__ void f() { undeclared(); }", "sm_90").unwrap_err().to_string();
    assert!(e.contains("undeclared"), "{e}");
    let e = nvrtc.compile("__global__ void f() {}", "sm_1").unwrap_err().to_string();
    assert!(e.contains("gpu-architecture"), "{e}");
}
