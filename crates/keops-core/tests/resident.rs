//! Arrays of a device whose memory is not that of the host, as GPUs are: the interpreter behind a
//! backend that counts what it is sent and what is asked back.

use keops_core::data::{ArgView, Buffer};
use keops_core::error::{CompileError, Error, InputError, RunError};
use keops_core::genred::{AsArg, Genred};
use keops_core::interp::Interpreter;
use keops_core::reduce::{self, Definition};
use keops_core::spec::{
    Axis, Backend, CheckedArgs, Device, Executable, Held, ReduceSpec, Unavailable,
};
use ndarray::{Array2, ArrayD, array};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Default)]
struct Traffic {
    uploads: AtomicUsize,
    fetches: AtomicUsize,
    alive: AtomicUsize,
}

struct Far(Arc<Traffic>);

struct FarArray(Buffer, Arc<Traffic>);

impl FarArray {
    fn held(values: Buffer, traffic: &Arc<Traffic>) -> Arc<dyn Held> {
        traffic.alive.fetch_add(1, Ordering::SeqCst);
        Arc::new(FarArray(values, traffic.clone()))
    }
}
impl Drop for FarArray {
    fn drop(&mut self) {
        self.1.alive.fetch_sub(1, Ordering::SeqCst);
    }
}
impl Held for FarArray {
    fn host(&self) -> Option<&Buffer> {
        None
    }
    fn fetch(&self) -> Result<Buffer, RunError> {
        self.1.fetches.fetch_add(1, Ordering::SeqCst);
        Ok(self.0.clone())
    }
    fn bytes(&self) -> usize {
        8
    }
}

struct FarExecutable {
    inner: Arc<dyn Executable>,
    spec: ReduceSpec,
    traffic: Arc<Traffic>,
}

impl FarExecutable {
    fn near<R>(
        &self,
        args: &CheckedArgs<'_>,
        f: impl FnOnce(&CheckedArgs<'_>) -> R,
    ) -> Result<R, RunError> {
        let views: Vec<ArgView<'_>> = args
            .args()
            .iter()
            .map(|arg| match arg.resident() {
                None => arg.view(),
                Some(r) => {
                    let held: &dyn Any = r.held();
                    let far: &FarArray = held.downcast_ref().expect("its own");
                    match far.0.view().expect("values") {
                        ArgView::Host(v) if v.shape() == r.shape() => ArgView::Host(v),
                        _ => panic!("the tests below have no reshaped arrays here"),
                    }
                }
            })
            .collect();
        let (i, j) = match self.spec.axis {
            Axis::J => (args.rows(), args.columns()),
            Axis::I => (args.columns(), args.rows()),
        };
        let near = CheckedArgs::new(&self.spec, views, args.ranges(), Some(i), Some(j));
        Ok(f(&near.expect("they fitted")))
    }
}

impl Executable for FarExecutable {
    fn run(&self, args: &CheckedArgs<'_>, out: &mut [Buffer]) -> Result<(), RunError> {
        self.near(args, |args| self.inner.run(args, out))?
    }
    fn run_resident(&self, args: &CheckedArgs<'_>) -> Option<Result<Vec<Arc<dyn Held>>, RunError>> {
        let made = self.near(args, |args| {
            let mut out = args.allocate(&self.spec)?;
            self.inner.run(args, &mut out)?;
            Ok(out.into_iter().map(|b| FarArray::held(b, &self.traffic)).collect())
        });
        Some(made.and_then(|made| made))
    }
    fn source(&self) -> Option<String> {
        None
    }
}

impl Backend for Far {
    fn name(&self) -> &str {
        "far"
    }
    fn check(&self) -> Result<(), Unavailable> {
        Ok(())
    }
    fn target(&self) -> String {
        "far".into()
    }
    fn compile(&self, spec: &ReduceSpec) -> Result<Arc<dyn Executable>, CompileError> {
        let inner = Interpreter::new().compile(spec)?;
        Ok(Arc::new(FarExecutable { inner, spec: spec.clone(), traffic: self.0.clone() }))
    }
    fn upload(&self, values: Buffer) -> Result<Arc<dyn Held>, RunError> {
        self.0.uploads.fetch_add(1, Ordering::SeqCst);
        Ok(FarArray::held(values, &self.0))
    }
}

fn far() -> (Device, Arc<Traffic>) {
    let traffic = Arc::new(Traffic::default());
    (Device::new(Far(traffic.clone())), traffic)
}
fn count(n: &AtomicUsize) -> usize {
    n.load(Ordering::SeqCst)
}

#[test]
fn arrays_are_sent_once_and_results_stay() -> Result<(), Error> {
    let (device, traffic) = far();
    let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
    let f: Genred = Genred::new("x * y * b", aliases, &reduce::SUM, Axis::J)?;
    let f = f.at(device.clone());
    let points = device.upload(array![[1.0], [2.0]])?;
    let mut b = device.upload(array![[1.0], [1.0]])?;
    for _ in 0..3 {
        b = f.call_resident((&points, &points, &b))?; // [1 2; 2 4] b
    }
    assert_eq!((count(&traffic.uploads), count(&traffic.fetches)), (2, 0));
    // [1 2; 2 4] (1, 1) = (3, 6), then five times as much each time.
    assert_eq!(b.to_host()?, array![[75.0], [150.0]].into_dyn());
    assert_eq!(count(&traffic.fetches), 1);
    drop((points, b));
    assert_eq!(count(&traffic.alive), 0);
    Ok(())
}

/// Steps on the host (gathers, scatters, components, functions) ask for what they need.
#[test]
fn computations_of_several_steps_agree() -> Result<(), Error> {
    let aliases = ["s = Pm(1)", "x = Vi(2)", "y = Vj(2)", "w = Vj(2)"];
    let point = |seed: usize, n: usize| {
        Array2::from_shape_fn((n, 2), |(i, k)| ((7 * i + 3 * k + seed) as f64).sin()).into_dyn()
    };
    let all = [array![0.7].into_dyn(), point(1, 5), point(2, 6), point(3, 6)];
    for (definition, k, formula) in [
        (Definition::from(&reduce::SUM), 1, "Exp(-s * SqDist(x, y)) * w"),
        ((&reduce::MIN).into(), 1, "s * SqDist(x, y) + w"),
        ((&reduce::K_MIN).into(), 2, "s * SqDist(x, y) + w"),
        ((&reduce::VARIANCE).into(), 1, "s * (x | y) * w"),
        ((&reduce::SUM).into(), 1, "TensorDot(y, x, [1, 2], [2, 1], [1], [0])"),
    ] {
        let f: Genred = match Genred::new(formula, aliases, (definition, k), Axis::J) {
            Ok(f) => f,
            // The last formula leaves arguments out, and not every reduction takes vectors.
            Err(e) if formula.starts_with("Tensor") => panic!("{e}"),
            Err(e) => return Err(e),
        };
        let value = f.call(&all.each_ref()[..])?;
        let e = value.mapv(|v| (3.0 * v).cos());
        let given: Vec<ArrayD<f64>> = [&all[..], &[e]].concat();
        for g in [f.vjp_all()?.with_primal(), f.vjp_all()?] {
            let plain = g.call_all(&given.iter().collect::<Vec<_>>()[..])?;
            let (device, traffic) = far();
            let held: Vec<_> = given.iter().map(|a| device.upload(a)).collect::<Result<_, _>>()?;
            let g = g.at(device);
            let got = g.call_all(&held.iter().collect::<Vec<_>>()[..])?;
            assert_eq!(got, plain, "{formula}");
            let asked = count(&traffic.fetches);
            assert!(asked <= given.len(), "an array is asked for once");
            g.call_all(&held.iter().collect::<Vec<_>>()[..])?;
            assert_eq!(count(&traffic.fetches), asked, "copies are kept");
        }
    }
    Ok(())
}

#[test]
fn arrays_move_between_devices() -> Result<(), Error> {
    let ((near, far), traffic) = {
        let (far, traffic) = far();
        ((Device::new(Interpreter::new()), far), traffic)
    };
    let x = array![1.0f32, 2.0, 4.0];
    let there = far.upload(&x)?;
    let f: Genred = Genred::new("Square(x)", ["x = Vj(1)"], &reduce::SUM, Axis::J)?;
    let e = f.clone().at(near.clone()).call((&there,)).unwrap_err();
    let Error::Input(InputError::Elsewhere { name, held, runs }) = &e else { panic!("{e}") };
    assert_eq!((&name[..], &held[..], &runs[..]), ("x", "far", "interpreter"));
    let here = near.upload(&there)?;
    assert_eq!(count(&traffic.fetches), 1);
    assert_eq!(f.at(near.clone()).call((&here,))?, array![[21.0f32]].into_dyn());
    // Of an array that a device holds already nothing is copied.
    assert_eq!((near.upload(&here)?.shape(), here.as_arg().shape()), (&[3][..], &[3][..]));
    drop(far);
    assert_eq!(there.resident().place(), "a device that is gone");
    assert_eq!(there.to_host()?, x.into_dyn());
    Ok(())
}
