//! The device: memory, transfers, launches. Everything that touches the driver is here.

use crate::codegen::{Code, THREADS};
use crate::layout::Tables;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg, sys,
};
use keops_core::data::{ArgView, Buffer, DType, HostView};
use keops_core::error::{CompileError, RunError};
use keops_core::spec::{CheckedArgs, Executable, Held, ReduceSpec, Unavailable};
use keops_core::{memory, with_view};
use ndarray::ArrayViewD;
use std::any::Any;
use std::sync::Arc;

/// Oldest driver interface that the bindings fit (CUDA 12.0).
const OLDEST_DRIVER: i32 = 12000;

/// An open device.
#[derive(Debug)]
pub struct Gpu {
    context: Arc<CudaContext>,
    architecture: String,
}

fn unavailable(reason: String) -> Unavailable {
    Unavailable { backend: "cuda".into(), reason }
}

impl Gpu {
    /// Opens a device.
    pub fn open(ordinal: usize) -> Result<Gpu, Unavailable> {
        // SAFETY: it only tries to load the driver's library, whose initialisers set up its own
        // state. Without it every other call of the bindings would panic.
        if !unsafe { sys::is_culib_present() } {
            return Err(unavailable(
                "no NVIDIA driver was found (libcuda); install the driver of the GPU, or use the CPU".into(),
            ));
        }
        let mut version = 0;
        // SAFETY: the pointer is valid; this call needs no initialisation.
        let status = unsafe { sys::cuDriverGetVersion(&mut version) };
        if status != sys::CUresult::CUDA_SUCCESS || version < OLDEST_DRIVER {
            return Err(unavailable(format!(
                "the NVIDIA driver supports CUDA {}.{}, at least {}.0 is needed: update the driver",
                version / 1000,
                version % 1000 / 10,
                OLDEST_DRIVER / 1000
            )));
        }
        let fail = |e: DriverError| {
            unavailable(format!("device {ordinal} cannot be opened: {}", message(e)))
        };
        cudarc::driver::result::init().map_err(fail)?;
        let count = CudaContext::device_count().map_err(fail)?;
        if ordinal >= count.max(0) as usize {
            return Err(unavailable(format!(
                "there is no device {ordinal}; the driver sees {count} devices"
            )));
        }
        let context = CudaContext::new(ordinal).map_err(fail)?;
        let (major, minor) = context.compute_capability().map_err(fail)?;
        Ok(Gpu { context, architecture: format!("sm_{major}{minor}") })
    }
    /// Architecture, as `sm_90`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }
    fn stream(&self) -> Stream {
        Stream(self.context.default_stream())
    }
    /// Sends an array to the device, where it stays.
    pub fn upload(&self, values: &Buffer) -> Result<Arc<dyn Held>, RunError> {
        let Some(view) = values.host_view() else { unreachable!("indices are no arguments") };
        let (stream, dtype) = (self.stream(), values.dtype());
        let memory = {
            let _finished = Finished(&stream.0);
            stream.upload_view(&view, "an array")?
        };
        stream.synchronize("an array")?;
        Ok(Arc::new(GpuArray { memory, dtype, shape: values.shape().to_vec(), stream }))
    }
    /// Loads machine code.
    pub fn load(
        &self,
        spec: &ReduceSpec,
        code: Code,
        cubin: Vec<u8>,
    ) -> Result<GpuExecutable, CompileError> {
        let fail =
            |e: DriverError| CompileError::Failed { backend: "cuda".into(), log: message(e) };
        let module =
            self.context.load_module(cudarc::nvrtc::Ptx::from_binary(cubin)).map_err(fail)?;
        let function = |name: &str, there: bool| {
            there.then(|| module.load_function(name).map_err(fail)).transpose()
        };
        let p = &code.program;
        let param = function("keops_param", p.param.len > 0)?;
        let kept = function("keops_kept", p.kept.len > 0)?;
        let reduced = function("keops_reduced", p.reduced.len > 0)?;
        let reduce = module.load_function("keops_reduce").map_err(fail)?;
        let stream = self.stream();
        Ok(GpuExecutable { spec: spec.clone(), code, stream, param, kept, reduced, reduce })
    }
}

/// What the driver says, in its own words where it has some.
fn message(e: DriverError) -> String {
    let text = e.error_string().map(|s| s.to_string_lossy().into_owned());
    text.unwrap_or_else(|_| format!("{:?}", e.0))
}

/// A compiled reduction on a device.
pub struct GpuExecutable {
    spec: ReduceSpec,
    code: Code,
    stream: Stream,
    param: Option<CudaFunction>,
    kept: Option<CudaFunction>,
    reduced: Option<CudaFunction>,
    reduce: CudaFunction,
}

/// Numbers, and arrays of them.
///
/// # Safety
/// There is no padding, and every pattern of bytes is a value.
unsafe trait Plain: Copy {}
// SAFETY: a number takes all of its bytes, any bits are one.
unsafe impl Plain for half::f16 {}
// SAFETY: as above.
unsafe impl Plain for half::bf16 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f64 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}
// SAFETY: elements of an array follow each other without gaps.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// The bytes of numbers.
fn bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: they have no padding; a byte may have any address.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The bytes of numbers, to be written.
fn bytes_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes`; and every pattern of bytes is a number.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// Waits at the end of a scope until the stream has done everything, also after an error: copies
/// may still read memory of the host, or write to it (memory that is pinned, or that the device
/// reaches by itself, is not copied aside first). What they use has to be declared before this.
struct Finished<'s>(&'s CudaStream);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        // Where the device has failed, nothing runs any more; the failure is reported already.
        let _ = self.0.synchronize();
    }
}

/// The stream on which a device does everything, one after the other.
#[derive(Clone)]
struct Stream(Arc<CudaStream>);

impl Stream {
    fn error(&self, e: DriverError, what: &str, bytes: usize) -> RunError {
        if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            let free = self.0.context().mem_get_info().map_or(0, |m| m.0);
            return RunError::OutOfMemory {
                what: format!("{what} on the device ({free} free)"),
                bytes,
            };
        }
        device_error(format!("{what}: {}", message(e)))
    }
    /// Memory for `n` elements of `size` bytes each.
    fn alloc(&self, n: usize, size: usize, what: &str) -> Result<CudaSlice<u8>, RunError> {
        let out = || RunError::OutOfMemory { what: what.into(), bytes: usize::MAX };
        let total = n.checked_mul(size).ok_or_else(out)?.max(1);
        // SAFETY: every buffer is written by a copy or a kernel before it is read.
        unsafe { self.0.alloc::<u8>(total) }.map_err(|e| self.error(e, what, total))
    }
    /// A copy on the device. The copy may be under way afterwards: see [`Finished`].
    fn upload<T: Plain>(&self, values: &[T], what: &str) -> Result<CudaSlice<u8>, RunError> {
        let mut memory = self.alloc(values.len(), size_of::<T>(), what)?;
        let from = bytes(values);
        if !from.is_empty() {
            self.0.memcpy_htod(from, &mut memory).map_err(|e| self.error(e, what, from.len()))?;
        }
        Ok(memory)
    }
    fn upload_view(&self, view: &HostView<'_>, what: &str) -> Result<CudaSlice<u8>, RunError> {
        fn contiguous<T: Plain>(
            stream: &Stream,
            v: &ArrayViewD<'_, T>,
            what: &str,
        ) -> Result<CudaSlice<u8>, RunError> {
            match v.as_slice() {
                Some(s) => stream.upload(s, what),
                None => {
                    let copy = memory::collected(v.iter().copied(), what)?;
                    let _finished = Finished(&stream.0);
                    stream.upload(&copy, what)
                }
            }
        }
        with_view!(view, v => contiguous(self, v, what))
    }
    /// Copies into a row-major buffer of the same size; none else. The copy may be under way
    /// afterwards.
    fn download(&self, from: &CudaSlice<u8>, to: &mut Buffer) -> Result<(), RunError> {
        let to = match to {
            Buffer::F16(a) => a.as_slice_mut().map(bytes_mut),
            Buffer::BF16(a) => a.as_slice_mut().map(bytes_mut),
            Buffer::F32(a) => a.as_slice_mut().map(bytes_mut),
            Buffer::F64(a) => a.as_slice_mut().map(bytes_mut),
            Buffer::I64(a) => a.as_slice_mut().map(bytes_mut),
        };
        let to = to.ok_or_else(wrong_results)?;
        if to.is_empty() {
            return Ok(());
        }
        if from.len() != to.len() {
            return Err(wrong_results());
        }
        self.0.memcpy_dtoh(from, to).map_err(|e| self.error(e, "a result", to.len()))
    }
    fn synchronize(&self, what: &str) -> Result<(), RunError> {
        self.0.synchronize().map_err(|e| self.error(e, what, 0))
    }
}

fn device_error(message: String) -> RunError {
    RunError::Device { backend: "cuda".into(), message }
}
fn wrong_results() -> RunError {
    device_error("result buffers do not fit the reduction".into())
}

/// An array in memory of a device; indices have no element type.
struct GpuArray {
    memory: CudaSlice<u8>,
    dtype: Option<DType>,
    shape: Vec<usize>,
    stream: Stream,
}

impl Held for GpuArray {
    fn host(&self) -> Option<&Buffer> {
        None
    }
    fn fetch(&self) -> Result<Buffer, RunError> {
        let mut copy = Buffer::zeros(self.dtype, &self.shape).ok_or_else(|| {
            let what = "a copy of an array of the device".into();
            RunError::OutOfMemory { what, bytes: self.memory.len() }
        })?;
        let stream = self.stream.clone();
        {
            let _finished = Finished(&stream.0);
            stream.download(&self.memory, &mut copy)?;
        }
        stream.synchronize("a copy of an array")?;
        Ok(copy)
    }
    fn bytes(&self) -> usize {
        self.memory.len()
    }
}

/// An argument in memory of the device.
enum Argument<'m> {
    Sent(CudaSlice<u8>),
    /// It was there before the call.
    Held(&'m CudaSlice<u8>),
}

impl Argument<'_> {
    fn memory(&self) -> &CudaSlice<u8> {
        match self {
            Argument::Sent(memory) => memory,
            Argument::Held(memory) => memory,
        }
    }
}

impl GpuExecutable {
    fn argument<'m>(&self, arg: &'m ArgView<'_>, name: &str) -> Result<Argument<'m>, RunError> {
        let name = format!("argument `{name}`");
        let held = arg.resident().and_then(|r| {
            let held: &dyn Any = r.held();
            held.downcast_ref::<GpuArray>()
        });
        if let Some(array) = held {
            let ordinal = |s: &Stream| s.0.context().ordinal();
            if ordinal(&array.stream) != ordinal(&self.stream) {
                return Err(device_error(format!("{name} is held by another device")));
            }
            return Ok(Argument::Held(&array.memory));
        }
        Ok(Argument::Sent(self.stream.upload_view(&*arg.host()?, &name)?))
    }
    /// Launches a kernel of `blocks` blocks; nothing if there are none.
    fn launch(
        &self,
        function: &CudaFunction,
        name: &str,
        blocks: usize,
        buffers: &[&CudaSlice<u8>],
        numbers: &[i32],
    ) -> Result<(), RunError> {
        if blocks == 0 {
            return Ok(());
        }
        let mut launch = self.stream.0.launch_builder(function);
        for b in buffers {
            launch.arg(*b);
        }
        for n in numbers {
            launch.arg(n);
        }
        let config = LaunchConfig {
            grid_dim: (blocks as u32, 1, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: callers pass what the kernel's signature in `codegen` has, in its order, with
        // buffers of the sizes that it indexes. All work is on one stream, so kernels that read a
        // buffer run after those that wrote it.
        unsafe { launch.launch(config) }.map(|_| ()).map_err(|e| self.stream.error(e, name, 0))
    }
}

/// Values and indices in memory of the device.
type Results = [CudaSlice<u8>; 2];

impl GpuExecutable {
    /// Computes the results, in memory of the device; none where there is nothing to compute. Failures
    /// of the kernels are reported by the next wait for the stream.
    fn compute(&self, args: &CheckedArgs<'_>) -> Result<Option<Results>, RunError> {
        let (p, plan, stream) = (&self.code.program, &self.code.plan, &self.stream);
        let tables = Tables::new(&self.spec, plan, args)?;
        // Arguments and tables are in use until all work is done.
        let _finished = Finished(&stream.0);
        let (rows, columns, batches) = (args.rows(), args.columns(), args.batches());
        let blocks = tables.tiles.len() * batches;
        if blocks == 0 {
            return Ok(None);
        }
        let size = if p.precision == keops_core::vecmath::Precision::F64 { 8 } else { 4 };
        let arguments = args
            .args()
            .iter()
            .zip(&self.spec.names)
            .map(|(a, name)| self.argument(a, name))
            .collect::<Result<Vec<_>, _>>()?;
        let offsets = stream.upload(&tables.offsets, "offsets")?;
        let tiles = stream.upload(&tables.tiles, "tiles")?;
        let ranges = stream.upload(&tables.ranges, "ranges")?;
        let param = stream.alloc(batches * p.param.len, size, "parameters")?;
        let records = |n: usize, len: usize, what: &str| {
            stream.alloc(batches.saturating_mul(n), len * size, what)
        };
        let kept = records(rows, p.kept.len, "kept records")?;
        let reduced = records(columns, plan.stride, "reduced records")?;
        let workspace = stream.alloc(blocks * plan.tile_rows(), plan.workspace, "sums")?;
        let element = |index: bool| {
            if index || self.spec.dtype.compute() == DType::F64 { 8 } else { 4 }
        };
        let mut values = stream.alloc(1, 1, "results")?;
        let mut indices = stream.alloc(1, 1, "results")?;
        for o in &*self.spec.outputs() {
            let n = batches.saturating_mul(rows).saturating_mul(o.dim);
            let memory = stream.alloc(n, element(o.index), "results")?;
            if o.index { indices = memory } else { values = memory }
        }
        let given: Vec<&CudaSlice<u8>> = arguments.iter().map(Argument::memory).collect();
        let prepare = |f: &Option<CudaFunction>, name: &str, n: usize, to: &CudaSlice<u8>| match f {
            Some(f) => {
                let mut buffers = given.clone();
                buffers.extend([&param, to, &offsets]);
                self.launch(f, name, n.div_ceil(THREADS) * batches, &buffers, &[n as i32])
            }
            None => Ok(()),
        };
        if let Some(f) = &self.param {
            let mut buffers = given.clone();
            buffers.extend([&param, &offsets]);
            self.launch(f, "keops_param", batches, &buffers, &[])?;
        }
        prepare(&self.kept, "keops_kept", rows, &kept)?;
        prepare(&self.reduced, "keops_reduced", columns, &reduced)?;
        let buffers = [&param, &kept, &reduced, &workspace, &values, &indices, &tiles, &ranges];
        let numbers = [tables.tiles.len() as i32, rows as i32, columns as i32];
        self.launch(&self.reduce, "keops_reduce", blocks, &buffers, &numbers)?;
        stream.synchronize("the reduction")?;
        Ok(Some([values, indices]))
    }
    fn held(&self, args: &CheckedArgs<'_>) -> Result<Vec<Arc<dyn Held>>, RunError> {
        let made = self.compute(args)?;
        let empty = || self.stream.alloc(1, 1, "results");
        let [values, indices] = match made {
            Some(made) => made,
            None => [empty()?, empty()?],
        };
        let (mut values, mut indices) = (Some(values), Some(indices));
        let mut all: Vec<Arc<dyn Held>> = vec![];
        for o in &*self.spec.outputs() {
            let memory = if o.index { indices.take() } else { values.take() };
            let Some(memory) = memory else { unreachable!("there is one output of each kind") };
            let dtype = (!o.index).then_some(self.spec.dtype.compute());
            let shape = [args.batch(), &[args.rows(), o.dim]].concat();
            all.push(Arc::new(GpuArray { memory, dtype, shape, stream: self.stream.clone() }));
        }
        Ok(all)
    }
}

impl Executable for GpuExecutable {
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        let outputs = self.spec.outputs();
        let size = |dim: usize| args.batches() * args.rows() * dim;
        let mut pairs = out.iter().zip(&*outputs);
        let fits = pairs.all(|(b, o)| b.shape().iter().product::<usize>() == size(o.dim));
        if out.len() != outputs.len() || !fits {
            return Err(wrong_results());
        }
        let Some([values, indices]) = self.compute(args)? else { return Ok(()) };
        {
            let _finished = Finished(&self.stream.0);
            for (buffer, o) in out.iter_mut().zip(&*outputs) {
                let from = if o.index { &indices } else { &values };
                self.stream.download(from, buffer)?;
            }
        }
        self.stream.synchronize("the results")
    }
    fn run_resident(&self, args: &CheckedArgs<'_>) -> Option<Result<Vec<Arc<dyn Held>>, RunError>> {
        Some(self.held(args))
    }
    fn source(&self) -> Option<String> {
        Some(self.code.text())
    }
}
