//! Shooting, attachments and costs against values computed elsewhere: those of `tests/golden/lddmm`
//! always, those beside the repository where they are present.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keops_core::spec::Device;
use keops_cpu::Cpu;
use keops_lddmm::Real;
use keops_lddmm::attachment::{
    Attachment, Landmarks, Matching, Sinkhorn, current, measure, oriented_varifold,
    unoriented_varifold, varifold,
};
use keops_lddmm::hamiltonian::State;
use keops_lddmm::io::read_shape;
use keops_lddmm::kernel::Kernel;
use keops_lddmm::registration::{Limits, Options, Progress, Registration};
use keops_lddmm::shape::{Cells, Shape};
use keops_lddmm::shooting::{Integrator, Shooting};
use ndarray::{Array2, Array3, ArrayView2, Axis};
use ndarray_npy::NpzReader;
use serde_json::Value;

fn device() -> Device {
    Device::new(Cpu::new())
}
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/lddmm")
}
fn beside() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if folder.join("golden/lddmm").is_dir() {
        return Some(folder);
    }
    println!("skipped: ../shared/golden/lddmm is absent");
    None
}
fn folders() -> Vec<PathBuf> {
    std::iter::once(repository()).chain(beside().map(|f| f.join("golden/lddmm"))).collect()
}
fn json(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    serde_json::from_str(
        &std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")),
    )
    .unwrap()
}
struct Arrays(NpzReader<File>);
impl Arrays {
    fn open(folder: &Path, name: &str) -> Arrays {
        Arrays(NpzReader::new(File::open(folder.join(name)).unwrap()).unwrap())
    }
    fn get(&mut self, name: &str) -> Array2<f64> {
        self.0.by_name(&format!("{name}.npy")).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    fn series(&mut self, name: &str) -> Array3<f64> {
        self.0.by_name(&format!("{name}.npy")).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    fn cells(&mut self, name: &str) -> Cells {
        let all: Array2<i64> =
            self.0.by_name(&format!("{name}.npy")).unwrap_or_else(|e| panic!("{name}: {e}"));
        let at = |r: ndarray::ArrayView1<'_, i64>, k: usize| r[k] as usize;
        if all.ncols() == 2 {
            Cells::Segments(all.outer_iter().map(|r| [at(r, 0), at(r, 1)]).collect())
        } else {
            Cells::Triangles(all.outer_iter().map(|r| [at(r, 0), at(r, 1), at(r, 2)]).collect())
        }
    }
}
fn number(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("{v} is no number"))
}
fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(number).collect()
}
fn kernel(v: &Value) -> Kernel {
    let sigma = || number(&v["sigma"]);
    match v["type"].as_str().unwrap() {
        "gaussian" => Kernel::gaussian(sigma()),
        "cauchy" => Kernel::cauchy(sigma()),
        "inverse_multiquadric" => Kernel::inverse_multiquadric(sigma()),
        "sum_gaussian" => {
            let (w, s) = (numbers(&v["weights"]), numbers(&v["sigmas"]));
            Kernel::sum_of_gaussians(&w.into_iter().zip(s).collect::<Vec<_>>())
        }
        other => panic!("kernel {other}"),
    }
    .unwrap()
}
/// `None` for families that are not varifolds, measures or landmarks.
fn attachment(v: &Value) -> Option<Arc<dyn Attachment>> {
    let of_centres = || match &v["kernel"] {
        Value::Null => Kernel::gaussian(number(&v["sigma"])).unwrap(),
        k => kernel(k),
    };
    let normal = || number(&v["sigma_n"]);
    Some(match v["type"].as_str().unwrap() {
        "landmark" => Arc::new(Landmarks),
        "measure" => Arc::new(measure(of_centres())),
        "current" => Arc::new(current(of_centres())),
        "varifold" => Arc::new(varifold(of_centres())),
        "varifold_oriented" => Arc::new(oriented_varifold(of_centres(), normal())),
        "varifold_unoriented_gauss" => Arc::new(unoriented_varifold(of_centres(), normal())),
        _ => return None,
    })
}
fn gap(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> f64 {
    (&a - &b).fold(0.0, |m, v| if v.abs() <= m { m } else { v.abs() })
}
fn size(a: &Array2<f64>) -> f64 {
    a.fold(0.0, |m, v| v.abs().max(m))
}

#[test]
fn shooting_and_its_adjoint() {
    for folder in folders() {
        let mut arrays = Arrays::open(&folder, "shooting.npz");
        let (mut cases, mut far, mut far_gradient) = (0, 0f64, 0f64);
        for case in json(&folder, "shooting.json").as_array().unwrap() {
            let label = format!("c{:02}", case["case"].as_u64().unwrap());
            let mut get = |name: &str| arrays.get(&format!("{label}_{name}"));
            let (q, p, x) = (get("q0"), get("p0"), get("x0"));
            let start = State::new(q.view(), p.view()).unwrap().with_silent(x.view()).unwrap();
            let mut weights = State::new(get("wq").view(), get("wp").view()).unwrap();
            weights = weights.with_silent(get("wx").view()).unwrap();
            let (qdot, pdot) = (get("qdot0"), get("pdot0"));
            for (name, of_scheme) in case["schemes"].as_object().unwrap() {
                let Ok(scheme) = name.parse::<Integrator>() else { continue };
                let nt = of_scheme["nt"].as_u64().unwrap() as usize;
                let s = Shooting::new(&kernel(&case["kernel"]), q.ncols(), scheme, nt, &device());
                let s = s.unwrap();
                let rates = s.dynamics().rates(&start).unwrap();
                far = far.max(gap(rates.q(), qdot.view())).max(gap(rates.p(), pdot.view()));
                let trajectory = s.shoot(start.clone()).unwrap();
                let mut series = |part: &str| arrays.series(&format!("{label}_{name}_{part}"));
                let (qt, pt, xt) = (series("qt"), series("pt"), series("xt"));
                let energies = numbers(&of_scheme["H"]);
                assert_eq!(trajectory.states().len(), nt + 1);
                for (k, state) in trajectory.states().iter().enumerate() {
                    far = far.max(gap(state.q(), qt.index_axis(Axis(0), k)));
                    far = far.max(gap(state.p(), pt.index_axis(Axis(0), k)));
                    far = far.max(gap(state.x(), xt.index_axis(Axis(0), k)));
                    let h = s.dynamics().energy(state).unwrap();
                    assert!((h - energies[k]).abs() < 1e-12 * h.abs().max(1.0), "{label} {name}");
                }
                let carried = s.carry(&trajectory, x.view()).unwrap();
                for (points, state) in carried.iter().zip(trajectory.states()) {
                    assert!(gap(points.view(), state.x()) < 1e-14);
                }
                let g = s.pull_back(&trajectory, weights.clone()).unwrap();
                let mut get = |part: &str| arrays.get(&format!("{label}_{name}_{part}"));
                far_gradient = far_gradient.max(gap(g.q(), get("gq").view()));
                far_gradient = far_gradient.max(gap(g.p(), get("gp").view()));
                far_gradient = far_gradient.max(gap(g.x(), get("gx").view()));
                assert!(far < 1e-12, "{label} {name}: {far:e}");
                assert!(far_gradient < 1e-11, "{label} {name}: {far_gradient:e}");
                cases += 1;
            }
        }
        println!("{cases} shootings: trajectories {far:.1e}, gradients {far_gradient:.1e}");
        assert!(cases >= 40);
    }
}

#[test]
fn two_landmarks_on_closed_forms() {
    for folder in folders() {
        for case in json(&folder, "two_landmarks.json").as_array().unwrap() {
            let column = |name: &str| {
                let v = numbers(&case[name]);
                Array2::from_shape_vec((v.len(), 1), v).unwrap()
            };
            let (q, p, q1, p1) = if case["kind"] == "2d_antisymmetric_pair" {
                let pair = |name: &str| {
                    let v = numbers(&case[name]);
                    ndarray::arr2(&[[v[0], v[1]], [-v[0], -v[1]]])
                };
                (pair("x"), pair("p"), pair("x1"), pair("p1"))
            } else {
                (column("q"), column("p"), column("q1"), column("p1"))
            };
            let kernel = Kernel::gaussian(number(&case["sigma"])).unwrap();
            let s = Shooting::new(&kernel, q.ncols(), Integrator::Rk4, 1500, &device()).unwrap();
            let start = State::new(q.view(), p.view()).unwrap();
            let h = s.dynamics().energy(&start).unwrap();
            assert!((h - number(&case["H"])).abs() < 1e-14);
            let end = s.shoot(start).unwrap();
            let far = gap(end.end().q(), q1.view()).max(gap(end.end().p(), p1.view()));
            assert!(far < 1e-12, "{case}: {far:e}");
        }
    }
}

/// One attachment in both precisions.
fn check_attachment(
    label: &str,
    a: &dyn Attachment,
    source: &Shape,
    target: &Shape,
    value: f64,
    gradient: &Array2<f64>,
) {
    fn relative<F: Real>(
        a: &dyn Attachment,
        source: &Shape,
        target: &Shape,
        value: f64,
        gradient: &Array2<f64>,
    ) -> (f64, f64) {
        let m = Matching::<F>::new(a, source, target, &device()).unwrap();
        let vertices = source.vertices().mapv(F::of_f64);
        let (v, g) = m.value_and_gradient(vertices.view()).unwrap();
        let g = g.mapv(keops_core::data::Element::to_f64);
        ((v / value - 1.0).abs(), gap(g.view(), gradient.view()) / size(gradient))
    }
    let (v, g) = relative::<f64>(a, source, target, value, gradient);
    assert!(v < 1e-10 && g < 1e-10, "{label}: value {v:e}, gradient {g:e}");
    let (v, g) = relative::<f32>(a, source, target, value, gradient);
    assert!(v < 1e-4 && g < 1e-4, "{label} in f32: value {v:e}, gradient {g:e}");
}

#[test]
fn attachments() {
    let folder = repository();
    let mut arrays = Arrays::open(&folder, "attachments.npz");
    let mut count = 0;
    for case in json(&folder, "attachments.json").as_array().unwrap() {
        let Some(a) = attachment(&case["spec"]) else { continue };
        let (key, data) = (case["key"].as_str().unwrap(), case["data"].as_str().unwrap());
        let mut shape = |which: &str| {
            let name = format!("{data}_{which}");
            Shape::new(arrays.get(&name), arrays.cells(&format!("{name}_cells"))).unwrap()
        };
        let (source, target) = (shape("source"), shape("target"));
        let gradient = arrays.get(&format!("{key}_grad"));
        check_attachment(key, &a, &source, &target, number(&case["value"]), &gradient);
        count += 1;
    }
    assert!(count >= 20);
}

/// Sinkhorn divergences: ours against an iteration in extended precision, those beside the repository
/// against another program that stops early (three digits).
#[test]
fn sinkhorn_divergences() {
    let mut count = 0;
    let mut check = |case: &Value, source: &Shape, target: &Shape, tolerance: f64| {
        let sinkhorn = Sinkhorn::new(number(&case["spec"]["blur"])).unwrap();
        let m = Matching::<f64>::new(&sinkhorn, source, target, &device()).unwrap();
        let (value, expected) = (m.value(source.vertices()).unwrap(), number(&case["value"]));
        assert!((value / expected - 1.0).abs() < tolerance, "{}: {value}", case["key"]);
        println!("{}: {value}, expected {expected}", case["key"]);
        count += 1;
    };
    let is = |case: &&Value| case["spec"]["type"] == "sinkhorn_divergence";
    let folder = repository();
    let mut arrays = Arrays::open(&folder, "attachments.npz");
    for case in json(&folder, "attachments.json").as_array().unwrap().iter().filter(is) {
        let mut shape = |which: &str| {
            let name = format!("{}_{which}", case["data"].as_str().unwrap());
            Shape::new(arrays.get(&name), arrays.cells(&format!("{name}_cells"))).unwrap()
        };
        check(case, &shape("source"), &shape("target"), 1e-8);
    }
    if let Some(folder) = beside() {
        let cases = json(&folder.join("golden/lddmm"), "attachments.json");
        for case in cases.as_array().unwrap().iter().filter(is) {
            let data = case["data"].as_str().unwrap();
            let shape = |which| shape_beside(&folder, &format!("hippos/{data}_{which}.ply"));
            check(case, &shape("source"), &shape("target"), 1e-3);
        }
    }
    assert!(count >= 3);
}

fn shape_beside(folder: &Path, name: &str) -> Shape {
    let (shape, _) = read_shape(folder.join("data").join(name)).unwrap();
    shape.to_planar().unwrap_or(shape)
}

#[test]
fn attachments_of_real_shapes() {
    let Some(folder) = beside() else { return };
    let golden = folder.join("golden/lddmm");
    let mut arrays = Arrays::open(&golden, "attachments.npz");
    for case in json(&golden, "attachments.json").as_array().unwrap() {
        let Some(a) = attachment(&case["spec"]) else { continue };
        let (key, data) = (case["key"].as_str().unwrap(), case["data"].as_str().unwrap());
        let (source, target) = match data.split_once("->") {
            Some((_, to)) => ("skulls/template.vtk".into(), format!("skulls/skull_{to}.vtk")),
            None => (format!("hippos/{data}_source.ply"), format!("hippos/{data}_target.ply")),
        };
        let (source, target) = (shape_beside(&folder, &source), shape_beside(&folder, &target));
        let gradient = arrays.get(&format!("{key}_grad"));
        check_attachment(key, &a, &source, &target, number(&case["value"]), &gradient);
    }
}

fn options(case: &Value) -> Options {
    let either =
        |a: &str, b: &str| if case[a].is_null() { case[b].clone() } else { case[a].clone() };
    Options {
        gamma: number(&case["gamma"]),
        integrator: case["scheme"].as_str().unwrap().parse().unwrap(),
        steps: case["nt"].as_u64().unwrap() as usize,
        ..Options::new(
            kernel(&either("kernel", "kernel_V")),
            attachment(&case["attachment"]).unwrap(),
        )
    }
}

#[test]
fn costs_and_gradients() {
    let folder = repository();
    let mut shapes = Arrays::open(&folder, "attachments.npz");
    let mut arrays = Arrays::open(&folder, "costs.npz");
    for case in json(&folder, "costs.json").as_array().unwrap() {
        let (key, data) = (case["key"].as_str().unwrap(), case["data"].as_str().unwrap());
        let mut shape = |which: &str| {
            let name = format!("{data}_{which}");
            Shape::new(shapes.get(&name), shapes.cells(&format!("{name}_cells"))).unwrap()
        };
        let (source, target) = (shape("source"), shape("target"));
        let r = Registration::<f64>::new(&source, &target, &options(case), &device()).unwrap();
        let mut get = |part: &str| arrays.get(&format!("{key}_{part}"));
        let e = r.evaluate(get("p0").view()).unwrap();
        assert!((e.cost / number(&case["value"]) - 1.0).abs() < 1e-9, "{key}: {}", e.cost);
        for (got, name) in [(&e.momenta, "gp"), (&e.positions, "gq")] {
            let expected = get(name);
            let far = gap(got.view(), expected.view()) / size(&expected);
            assert!(far < 1e-9, "{key} {name}: {far:e}");
        }
    }
}

#[test]
fn costs_of_reference_registrations() {
    let Some(folder) = beside() else { return };
    let golden = folder.join("golden/lddmm");
    for name in ["reg_hippos68_tutorial", "reg_skull_template_australopithecus"] {
        let case = json(&golden, &format!("{name}.json"));
        let mut arrays = Arrays::open(&golden, &format!("{name}.npz"));
        let mut shape = |which: &str| {
            let cells = arrays.cells(&format!("{which}_c"));
            let s = Shape::new(arrays.get(&format!("{which}_v")), cells).unwrap();
            s.to_planar().unwrap_or(s)
        };
        let (source, target) = (shape("source"), shape("target"));
        let r = Registration::<f64>::new(&source, &target, &options(&case), &device()).unwrap();
        let p = arrays.get("p_random");
        let d = source.dim();
        let p = p.slice(ndarray::s![.., ..d]);
        let start = r.evaluate((&p * 0.0).view()).unwrap();
        assert!((start.cost / number(&case["cost_start"]) - 1.0).abs() < 1e-9, "{}", start.cost);
        let e = r.evaluate(p).unwrap();
        let cost = number(&case["cost_at_random_p"]);
        let gradient = arrays.get("grad_at_p_random");
        let far = gap(e.momenta.view(), gradient.slice(ndarray::s![.., ..d])) / size(&gradient);
        println!("{name}: cost {:.1e}, gradient {far:.1e}", (e.cost / cost - 1.0).abs());
        assert!((e.cost / cost - 1.0).abs() < 1e-9 && far < 1e-9, "{name}");
    }
}

/// The registrations of the literature end no higher than 1.02 times the reference in no more
/// evaluations.
#[test]
fn reference_registrations() {
    let Some(folder) = beside() else { return };
    for (name, source, target) in [
        (
            "reg_hippos68_tutorial",
            "hippos/hippos_reduc_reduc_source.ply",
            "hippos/hippos_reduc_reduc_target.ply",
        ),
        (
            "reg_skull_template_australopithecus",
            "skulls/template.vtk",
            "skulls/skull_australopithecus.vtk",
        ),
    ] {
        let case = json(&folder.join("golden/lddmm"), &format!("{name}.json"));
        let (source, target) = (shape_beside(&folder, source), shape_beside(&folder, target));
        let limits = Limits {
            iterations: 300,
            evaluations: case["evals"].as_u64().unwrap() as usize,
            ..Limits::default()
        };
        let o = Options { limits, ..options(&case) };
        let r = Registration::<f64>::new(&source, &target, &o, &device()).unwrap();
        let mut go_on = |_: &Progress<'_>| ControlFlow::Continue(());
        let report = r.run(None, &mut go_on).unwrap().report;
        println!("{name}\n{report}\n");
        assert!((report.before.cost / number(&case["cost_start"]) - 1.0).abs() < 1e-9);
        assert!(report.after.cost <= 1.02 * number(&case["cost_end"]));
        assert!(report.evaluations <= o.limits.evaluations);
        let reference = &case["after"];
        assert!(report.distances_after.hausdorff() <= 1.1 * number(&reference["hausdorff"]));
        assert!(report.jacobian.min > 0.0 && report.conservation.hamiltonian_drift < 1e-3);
    }
}
