//! Random reductions with data of any size, for the tests of threads.
#![allow(dead_code)] // Every test file uses a part of it.

mod watched;

#[allow(unused_imports)]
pub use watched::Watched;

use keops_core::conformance::{Case, Problem, Random, judge};
use keops_core::data::{ArgView, Buffer, DType, Element};
use keops_core::error::Error;
use keops_core::graph::Category;
use keops_core::interp::evaluate_with_bounds;
use keops_core::ranges::Ranges;
use keops_core::spec::{CheckedArgs, Device, ReduceSpec, Resident};
use keops_cpu::Level;
use ndarray::{ArrayD, IxDyn};

/// A reduction with its arguments.
pub struct Job {
    pub spec: ReduceSpec,
    pub text: String,
    arguments: Vec<Buffer>,
    ranges: Option<Ranges>,
    sizes: [usize; 2],
}

/// The most numbers in the results of a job: with more, tests of threads would measure memory.
const RESULTS: usize = 1 << 21;

/// Random reductions of the conformance suite, which are small, with `rows` × `columns` pairs
/// instead; a third has ranges, another third batches. Those with more results than [`RESULTS`]
/// are left out, so that there can be fewer than `count`.
pub fn jobs(seed: u64, count: usize, sizes: impl Fn(usize) -> [usize; 2]) -> Vec<Job> {
    let mut random = Random::new(seed);
    let mut number = move || (random.bits() % (1 << 20)) as u32;
    (0..count)
        .map(|k| {
            let header = (0..16).map(|_| number()).collect();
            let length = 1 + number() as usize % 6;
            let instructions =
                (0..length).map(|_| [number(), number(), number()]).collect::<Vec<_>>();
            let problem = Case { header, instructions }.build().expect("every case is valid");
            Job::new(problem, k, sizes(k), number().into())
        })
        .filter(|job| job.results() <= RESULTS)
        .collect()
}

impl Job {
    fn new(problem: Problem, k: usize, sizes: [usize; 2], seed: u64) -> Job {
        let batch: &[usize] = if k % 3 == 1 { &[2, 2] } else { &[] };
        let spec = problem.spec;
        let mut random = Random::new(seed);
        let arguments = spec
            .vars
            .iter()
            .map(|v| {
                let mut shape = batch.to_vec();
                match v.category {
                    Category::I => shape.push(sizes[0]),
                    Category::J => shape.push(sizes[1]),
                    Category::Param => {}
                }
                shape.push(v.dim);
                values(&mut random, spec.dtype, &shape)
            })
            .collect();
        let ranges = (k % 3 == 2).then(|| {
            let thirds = |n: usize| [n / 3, n / 3, n / 2, n];
            let mask: Vec<bool> = (0..16).map(|_| random.unit() < 0.6).collect();
            Ranges::from_clusters(&thirds(sizes[0]), &thirds(sizes[1]), &mask)
                .expect("clusters in order")
        });
        Job { spec, text: problem.text, arguments, ranges, sizes }
    }
    /// How many numbers its results hold.
    fn results(&self) -> usize {
        let dims: usize = self.spec.outputs().iter().map(|o| o.dim).sum();
        let args = self.checked().expect("arguments fit");
        dims * args.rows() * args.batches()
    }
    /// The reduction on a device, as bits.
    pub fn run(&self, device: &Device) -> Result<Vec<Vec<u64>>, Error> {
        Ok(self.outputs(device)?.iter().map(bits).collect())
    }
    /// Its arguments that `which` names by number, held by a device.
    pub fn upload(&self, device: &Device, which: impl Fn(usize) -> bool) -> Vec<Option<Resident>> {
        let upload = |(k, b): (usize, &Buffer)| {
            let arg = b.view().expect("arguments are values");
            which(k).then(|| device.upload_view(&arg).expect("memory"))
        };
        self.arguments.iter().enumerate().map(upload).collect()
    }
    /// As [`Job::run`], with arguments that the device holds in place of its own.
    pub fn run_with(
        &self,
        device: &Device,
        held: &[Option<Resident>],
    ) -> Result<Vec<Vec<u64>>, Error> {
        let own = self.arguments.iter().filter_map(Buffer::view);
        let views = own.zip(held).map(|(own, held)| held.as_ref().map_or(own, ArgView::from));
        let [m, n] = self.sizes.map(Some);
        let args = CheckedArgs::new(&self.spec, views.collect(), self.ranges.as_ref(), m, n)?;
        let mut out = args.allocate(&self.spec)?;
        device.compile(&self.spec)?.run(&args, &mut out)?;
        Ok(out.iter().map(bits).collect())
    }
    /// The same reduction with other values of the arguments that `which` names.
    pub fn changed(mut self, which: impl Fn(usize) -> bool) -> Job {
        let mut random = Random::new(99);
        for (_, argument) in self.arguments.iter_mut().enumerate().filter(|(k, _)| which(*k)) {
            let shape = argument.shape().to_vec();
            *argument = values(&mut random, self.spec.dtype, &shape);
        }
        self
    }
    /// What is wrong with the results of a device, beyond the error bounds of the interpreter.
    pub fn judge(&self, device: &Device) -> Result<Option<String>, Error> {
        let reference = evaluate_with_bounds(&self.spec, &self.checked()?)?;
        let got = self.outputs(device)?;
        let judged = reference.iter().zip(&got).map(|(r, g)| judge(r, g, self.spec.k));
        Ok(judged.filter_map(|j| j.wrong).next())
    }
    fn checked(&self) -> Result<CheckedArgs<'_>, Error> {
        let views: Vec<ArgView<'_>> = self.arguments.iter().filter_map(Buffer::view).collect();
        let [m, n] = self.sizes.map(Some);
        Ok(CheckedArgs::new(&self.spec, views, self.ranges.as_ref(), m, n)?)
    }
    fn outputs(&self, device: &Device) -> Result<Vec<Buffer>, Error> {
        let executable = device.compile(&self.spec)?;
        let args = self.checked()?;
        let mut out = args.allocate(&self.spec)?;
        executable.run(&args, &mut out)?;
        Ok(out)
    }
}

fn values(random: &mut Random, dtype: DType, shape: &[usize]) -> Buffer {
    fn fill<T: Element>(random: &mut Random, shape: &[usize]) -> ArrayD<T> {
        let n: usize = shape.iter().product();
        // Few different values, so that selections have ties.
        let next = |_| T::of_f64((random.below(300) as f64 - 150.0) / 100.0);
        let data: Vec<T> = (0..n).map(next).collect();
        ArrayD::from_shape_vec(IxDyn(shape), data).expect("as many values as entries")
    }
    match dtype {
        DType::F16 => Buffer::F16(fill(random, shape)),
        DType::BF16 => Buffer::BF16(fill(random, shape)),
        DType::F32 => Buffer::F32(fill(random, shape)),
        DType::F64 => Buffer::F64(fill(random, shape)),
    }
}

/// Every bit of a result; all NaN are one.
fn bits(b: &Buffer) -> Vec<u64> {
    fn all<T: Element>(a: &ArrayD<T>) -> Vec<u64> {
        a.iter()
            .map(|v| v.to_f64())
            .map(|v| if v.is_nan() { u64::MAX } else { v.to_bits() })
            .collect()
    }
    match b {
        Buffer::F16(a) => all(a),
        Buffer::BF16(a) => all(a),
        Buffer::F32(a) => all(a),
        Buffer::F64(a) => all(a),
        Buffer::I64(a) => a.iter().map(|v| *v as u64).collect(),
    }
}

/// The levels of this machine; says which are missing.
pub fn levels() -> Vec<Level> {
    let here = Level::available();
    for level in [Level::Avx512, Level::Avx2] {
        if !here.contains(&level) {
            eprintln!("skipped: this processor has no {}", level.name());
        }
    }
    here
}
