//! Laws that shootings, attachments and registrations obey, on generated shapes.

use std::ops::ControlFlow;
use std::sync::Arc;

use keops_core::spec::Device;
use keops_cpu::Cpu;
use keops_lddmm::attachment::{
    Attachment, Landmarks, Matching, Sinkhorn, WeightedSum, current, measure, oriented_varifold,
    unoriented_varifold, varifold,
};
use keops_lddmm::builtin::{curve_pair, surface_pair};
use keops_lddmm::hamiltonian::State;
use keops_lddmm::kernel::Kernel;
use keops_lddmm::registration::{
    Checkpoint, CheckpointError, Limits, Observer, Options, Progress, Registration, Stop,
};
use keops_lddmm::report::{Report, Warning};
use keops_lddmm::shape::{Cells, Shape};
use keops_lddmm::shooting::{Integrator, Shooting};
use keops_lddmm::{LddmmError, Real};
use ndarray::{Array2, ArrayView2, Axis, array, concatenate, s};

fn device() -> Device {
    Device::new(Cpu::new())
}
/// Reproducible numbers in (-1, 1).
fn noise(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64 ^ seed.wrapping_mul(0xd134_2543_de82_ef95);
    Array2::from_shape_simple_fn((rows, columns), || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}
fn gap(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> f64 {
    (&a - &b).fold(0.0, |m, v| if v.abs() <= m { m } else { v.abs() })
}
fn shooting<F: Real>(d: usize, integrator: Integrator, steps: usize) -> Shooting<F> {
    Shooting::new(&Kernel::gaussian(0.8).unwrap(), d, integrator, steps, &device()).unwrap()
}
/// Landmarks about 1 apart with momenta that move them by about 1.
fn landmarks(n: usize, d: usize, seed: u64) -> State<f64> {
    let (q, p) = (noise(n, d, seed) * 2.0, noise(n, d, seed + 100));
    State::new(q.view(), p.view()).unwrap()
}
fn end(s: &Shooting<f64>, start: State<f64>) -> State<f64> {
    s.shoot(start).unwrap().end().clone()
}
fn far(a: &State<f64>, b: &State<f64>) -> f64 {
    gap(a.q(), b.q()).max(gap(a.p(), b.p())).max(gap(a.x(), b.x()))
}

#[test]
fn orders_of_the_schemes() {
    let start = landmarks(8, 3, 1).with_silent(noise(5, 3, 9).view()).unwrap();
    let exact = end(&shooting(3, Integrator::Rk4, 640), start.clone());
    for (scheme, order) in Integrator::ALL.into_iter().zip([1.0, 2.0, 2.0, 2.0, 4.0, 2.0]) {
        let error = |steps| far(&end(&shooting(3, scheme, steps), start.clone()), &exact);
        let seen = (error(40) / error(80)).log2();
        assert!((seen - order).abs() < 0.15, "{scheme}: order {seen}");
        // Energy and angular momentum drift at least at the order of the scheme.
        let drift = |steps| {
            let s = shooting(3, scheme, steps);
            let e = end(&s, start.clone());
            let h = |x: &State<f64>| s.dynamics().energy(x).unwrap();
            let l = |x: &State<f64>| {
                let m = x.q().t().dot(&x.p());
                &m - &m.t()
            };
            ((h(&e) - h(&start)).abs(), gap(l(&e).view(), l(&start).view()))
        };
        let (coarse, fine) = (drift(40), drift(80));
        for (a, b) in [(coarse.0, fine.0), (coarse.1, fine.1)] {
            assert!(b < 1e-13 || (a / b).log2() > order - 0.3, "{scheme}: {a:e} {b:e}");
        }
        // Shooting back returns, up to the error of the scheme.
        let back = |steps| {
            let s = shooting(3, scheme, steps);
            let mut turned = end(&s, start.clone());
            turned.p_mut().mapv_inplace(|v| -v);
            gap(end(&s, turned).q(), start.q())
        };
        let (coarse, fine) = (back(40), back(80));
        assert!(fine < 1e-13 || (coarse / fine).log2() > order - 0.3, "{scheme}: {fine:e}");
    }
}

#[test]
fn linear_momentum_is_exact() {
    for (seed, scheme) in (0..).zip(Integrator::ALL) {
        let start = landmarks(30, 3, seed);
        let sum = |s: &State<f64>| s.p().sum_axis(Axis(0));
        let e = end(&shooting(3, scheme, 10), start.clone());
        let drift = (sum(&e) - sum(&start)).fold(0.0, |m: f64, v| m.max(v.abs()));
        let size = start.p().fold(0.0, |t, v| t + v.abs());
        assert!(drift < 1e-14 * size, "{scheme}: {drift:e} of {size}");
    }
}

#[test]
fn one_landmark_moves_straight() {
    let (q, p) = (array![[0.3, -0.2]], array![[1.5, 0.7]]);
    for scheme in Integrator::ALL {
        let e = end(&shooting(2, scheme, 10), State::new(q.view(), p.view()).unwrap());
        assert!(gap(e.q(), (&q + &p).view()) < 1e-15 && gap(e.p(), p.view()) == 0.0);
    }
}

/// On a line, with u = q_1 − q_2 and w = p_1 − p_2: H = ¼(P²(1 + k) + w²(1 − k)), u̇ = w(1 − k), so
/// that the time to come from u(0) to u(1), an integral over u, is 1.
#[test]
fn two_landmarks_take_the_time_of_the_closed_form() {
    for (q, p) in [([0.0, 1.2], [0.5, -0.1]), ([0.0, 0.9], [0.2, 0.9])] {
        let column = |v: [f64; 2]| array![[v[0]], [v[1]]];
        let start = State::new(column(q).view(), column(p).view()).unwrap();
        let s = shooting::<f64>(1, Integrator::Rk4, 400);
        let e = end(&s, start.clone());
        let k = |u: f64| (-u * u / 0.64).exp();
        let total = p[0] + p[1];
        let h = s.dynamics().energy(&start).unwrap();
        let (from, to) = (q[0] - q[1], e.q()[[0, 0]] - e.q()[[1, 0]]);
        let sign = (p[0] - p[1]).signum();
        // Simpson's rule; w keeps its sign in these cases.
        let rate = |u: f64| sign / ((1.0 - k(u)) * (4.0 * h - total * total * (1.0 + k(u)))).sqrt();
        let n = 2000;
        let step = (to - from) / n as f64;
        let time: f64 = (0..=n)
            .map(|i| {
                let weight = if i == 0 || i == n { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
                weight * rate(from + i as f64 * step) * step / 3.0
            })
            .sum();
        assert!((time - 1.0).abs() < 1e-9, "{time}");
    }
}

/// What holds to rounding for every Runge–Kutta scheme.
#[test]
fn exact_symmetries() {
    for (seed, scheme) in (10..).zip(Integrator::ALL) {
        let start = landmarks(9, 2, seed).with_silent(noise(4, 2, seed).view()).unwrap();
        let s = shooting(2, scheme, 10);
        let e = end(&s, start.clone());
        let near = |a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>| {
            assert!(gap(a, b) < 1e-13, "{scheme}: {:e}", gap(a, b));
        };
        // Rotation and translation.
        let (sin, cos) = (0.7f64.sin(), 0.7f64.cos());
        let turn = array![[cos, sin], [-sin, cos]];
        let shift = array![[0.3, -1.1]];
        let state = State::new((start.q().dot(&turn) + &shift).view(), start.p().dot(&turn).view());
        let x = start.x().dot(&turn) + &shift;
        let moved = end(&s, state.unwrap().with_silent(x.view()).unwrap());
        near(moved.q(), (e.q().dot(&turn) + &shift).view());
        near(moved.p(), e.p().dot(&turn).view());
        near(moved.x(), (e.x().dot(&turn) + &shift).view());
        // Permutation.
        let order: Vec<usize> = (0..9).rev().collect();
        let pick = |a: ArrayView2<'_, f64>| a.select(Axis(0), &order);
        let permuted = end(&s, State::new(pick(start.q()).view(), pick(start.p()).view()).unwrap());
        near(permuted.q(), pick(e.q()).view());
        // A silent point at a landmark follows it.
        let followed = end(&s, start.clone().with_silent(start.q()).unwrap());
        near(followed.x(), followed.q());
        // A landmark split in two at its place.
        let both = |a: ArrayView2<'_, f64>, share: f64| {
            let mut all = concatenate(Axis(0), &[a, a.slice(s![..1, ..])]).unwrap();
            all.row_mut(0).mapv_inplace(|v| v * share);
            all.row_mut(9).mapv_inplace(|v| v * if share == 1.0 { 1.0 } else { 1.0 - share });
            all
        };
        let split = State::new(both(start.q(), 1.0).view(), both(start.p(), 0.3).view()).unwrap();
        let split = end(&s, split);
        near(split.q().slice(s![..9, ..]), e.q());
        near(split.q().slice(s![9.., ..]), e.q().slice(s![..1, ..]));
        // Momenta halved, twice: half of the time, then the rest.
        let half = |state: State<f64>| {
            let mut state = state;
            state.p_mut().mapv_inplace(|v| 0.5 * v);
            let mut e = end(&shooting(2, scheme, 5), state);
            e.p_mut().mapv_inplace(|v| 2.0 * v);
            e
        };
        assert!(far(&half(half(start.clone())), &e) < 1e-13, "{scheme}");
    }
}

/// ⟨c, J w⟩ = ⟨Jᵀ c, w⟩ for the flow, J w by central differences.
#[test]
fn adjoint_of_the_flow() {
    for (seed, scheme) in (20..).zip(Integrator::ALL) {
        for d in 1..=3 {
            let s = shooting(d, scheme, 6);
            let state = |seed| landmarks(7, d, seed).with_silent(noise(4, d, seed).view()).unwrap();
            let (start, w, c) = (state(seed), state(seed + 50), state(seed + 70));
            let moved = |h: f64| {
                let mut m = start.clone();
                m.q_mut().scaled_add(h, &w.q());
                m.p_mut().scaled_add(h, &w.p());
                m.x_mut().scaled_add(h, &w.x());
                end(&s, m)
            };
            let inner = |a: &State<f64>, b: &State<f64>| {
                (&a.q() * &b.q()).sum() + (&a.p() * &b.p()).sum() + (&a.x() * &b.x()).sum()
            };
            // Central differences of order 4.
            let (h, f) = (1e-4, |h: f64| inner(&c, &moved(h)));
            let expected = (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h);
            let trajectory = s.shoot(start.clone()).unwrap();
            let got = inner(&s.pull_back(&trajectory, c).unwrap(), &w);
            let error = (got - expected).abs() / expected.abs().max(1.0);
            assert!(error < 1e-8, "{scheme} d = {d}: {got} {expected}");
        }
    }
}

/// Determinants of the carried Jacobians against central differences of the carried points.
#[test]
fn jacobians_of_the_flow() {
    for d in 2..=3 {
        let s = shooting(d, Integrator::Heun, 8);
        let trajectory = s.shoot(landmarks(10, d, 30)).unwrap();
        let points = noise(12, d, 31) * 2.0;
        let (places, det) = s.carry_with_jacobian(&trajectory, points.view()).unwrap();
        let carried = s.carry(&trajectory, points.view()).unwrap();
        assert!(gap(places.view(), carried[8].view()) < 1e-14);
        let h = 1e-5;
        let columns: Vec<Array2<f64>> = (0..d)
            .map(|k| {
                let at = |h: f64| {
                    let mut p = points.clone();
                    p.column_mut(k).mapv_inplace(|v| v + h);
                    s.carry(&trajectory, p.view()).unwrap().pop().unwrap()
                };
                (at(h) - at(-h)) / (2.0 * h)
            })
            .collect();
        for i in 0..12 {
            let c: Vec<Vec<f64>> = columns.iter().map(|m| m.row(i).to_vec()).collect();
            let expected = if d == 2 {
                c[0][0] * c[1][1] - c[0][1] * c[1][0]
            } else {
                (0..3)
                    .map(|k| {
                        let (l, m) = ((k + 1) % 3, (k + 2) % 3);
                        c[0][k] * (c[1][l] * c[2][m] - c[1][m] * c[2][l])
                    })
                    .sum()
            };
            assert!((det[i] - expected).abs() < 1e-8 * expected.abs().max(1.0));
            assert!(det[i] > 0.0);
        }
    }
}

#[test]
fn a_flow_that_breaks_down_says_where() {
    let start = State::new(
        array![[0.0, 0.0], [0.1, 0.0]].view(),
        array![[1e200, 0.0], [-1e200, 1.0]].view(),
    );
    let e = shooting::<f64>(2, Integrator::Euler, 4).shoot(start.unwrap()).unwrap_err();
    assert!(matches!(e, LddmmError::Breakdown { steps: 4, .. }), "{e}");
    let bad = State::new(array![[0.0, f64::NAN]].view(), array![[1.0, 0.0]].view()).unwrap();
    let e = shooting::<f64>(2, Integrator::Rk4, 4).shoot(bad).unwrap_err();
    assert_eq!(e, LddmmError::Breakdown { step: 1, steps: 4 });
    let kernel = Kernel::gaussian(1.0).unwrap();
    for steps in [0, usize::MAX] {
        assert!(Shooting::<f64>::new(&kernel, 2, Integrator::Rk4, steps, &device()).is_err());
    }
    // A trajectory of another number of steps.
    let t = shooting::<f64>(2, Integrator::Heun, 4).shoot(landmarks(3, 2, 0)).unwrap();
    assert!(shooting(2, Integrator::Heun, 5).pull_back(&t, landmarks(3, 2, 0)).is_err());
    assert!(shooting(2, Integrator::Heun, 5).carry(&t, noise(2, 2, 0).view()).is_err());
}

type Any = Arc<dyn Attachment>;

fn families(sigma: f64) -> Vec<Any> {
    let kernel = || Kernel::gaussian(sigma).unwrap();
    let sum = Kernel::sum_of_gaussians(&[(1.0, sigma), (0.5, 0.5 * sigma)]).unwrap();
    let scales =
        WeightedSum::of_scales(&[sigma, 0.5 * sigma], |s| Ok(varifold(Kernel::gaussian(s)?)));
    vec![
        Arc::new(measure(kernel())),
        Arc::new(current(kernel())),
        Arc::new(varifold(kernel())),
        Arc::new(oriented_varifold(kernel(), 0.7)),
        Arc::new(unoriented_varifold(kernel(), 0.6)),
        Arc::new(varifold(sum)),
        Arc::new(current(Kernel::cauchy(sigma).unwrap())),
        Arc::new(varifold(Kernel::matern(2.5, sigma).unwrap())),
        Arc::new(scales.unwrap().and(0.3, measure(kernel())).unwrap()),
    ]
}
fn pairs() -> Vec<(Shape, Shape)> {
    let (a, b) = curve_pair(30).unwrap();
    vec![(a.to_spatial().unwrap(), b.to_spatial().unwrap()), (a, b), surface_pair(1).unwrap()]
}
fn value(a: &Any, source: &Shape, target: &Shape) -> f64 {
    let m = Matching::<f64>::new(a, source, target, &device()).unwrap();
    m.value(source.vertices()).unwrap()
}

#[test]
fn attachments_are_distances() {
    for (source, target) in pairs() {
        for a in families(0.8) {
            let v = value(&a, &source, &target);
            assert_eq!(value(&a, &source, &source), 0.0, "{a}");
            assert!(v > 1e-3, "{a}: {v}");
            let close = |w: f64, what: &str| {
                assert!((w - v).abs() < 1e-12 * v.max(1.0), "{a}, {what}: {w} {v}");
            };
            close(value(&a, &target, &source), "symmetry");
            // A rigid motion of both.
            let (sin, cos) = (0.4f64.sin(), 0.4f64.cos());
            let rigid = |s: &Shape| {
                let mut m = s.vertices().to_owned();
                for mut r in m.outer_iter_mut() {
                    let (x, y) = (r[0], r[1]);
                    (r[0], r[1]) = (cos * x - sin * y + 0.3, sin * x + cos * y - 2.0);
                }
                s.with_vertices(m).unwrap()
            };
            close(value(&a, &rigid(&source), &rigid(&target)), "rigid motion");
            // Cells in another order, and each turned round.
            let change = |s: &Shape, turn: bool| {
                let cells = match s.cells().clone() {
                    Cells::Points => Cells::Points,
                    Cells::Segments(mut c) => {
                        c.reverse();
                        c.iter_mut().filter(|_| turn).for_each(|c| c.reverse());
                        Cells::Segments(c)
                    }
                    Cells::Triangles(mut c) => {
                        c.reverse();
                        c.iter_mut().filter(|_| turn).for_each(|c| c.reverse());
                        Cells::Triangles(c)
                    }
                };
                Shape::new(s.vertices().to_owned(), cells).unwrap()
            };
            close(value(&a, &change(&source, false), &target), "order of cells");
            let turned = value(&a, &change(&source, true), &target);
            let name = a.to_string();
            if name.starts_with("current") || name.starts_with("oriented") {
                assert!(turned > v + 0.1, "{a}: {turned} {v}");
                close(value(&a, &change(&source, true), &change(&target, true)), "both turned");
            } else {
                close(turned, "orientation");
            }
        }
    }
}

/// The distance of a shape from a finer version of itself falls with the size of its cells.
#[test]
fn attachments_are_consistent_under_refinement() {
    for a in families(0.8) {
        let far = |n: usize| {
            let (coarse, fine) = (curve_pair(n).unwrap().0, curve_pair(2 * n).unwrap().0);
            value(&a, &coarse, &fine) / value(&a, &fine, &curve_pair(2 * n).unwrap().1)
        };
        assert!(far(80) < 0.1 * far(20) && far(80) < 1e-3, "{a}: {:e} {:e}", far(20), far(80));
    }
}

#[test]
fn gradients_of_attachments() {
    let cloud = |s: &Shape| Shape::new(s.vertices().to_owned(), Cells::Points).unwrap();
    let mut cases: Vec<(Any, Shape, Shape)> = vec![];
    for (source, target) in pairs() {
        cases.extend(families(0.8).into_iter().map(|a| (a, source.clone(), target.clone())));
        cases.push((Arc::new(Landmarks), source.clone(), target.clone()));
        cases.push((Arc::new(Sinkhorn::new(0.4).unwrap()), source.clone(), target.clone()));
        let measure = families(0.8).swap_remove(0);
        cases.push((measure.clone(), cloud(&source), cloud(&target)));
        cases.push((measure, source.clone(), cloud(&target)));
    }
    for (a, source, target) in cases {
        let m = Matching::<f64>::new(&a, &source, &target, &device()).unwrap();
        let (_, g) = m.value_and_gradient(source.vertices()).unwrap();
        let w = noise(source.vertex_count(), source.dim(), 3);
        // Central differences of order 4.
        let h = 7e-5;
        let at = |h: f64| m.value((&source.vertices() + &(&w * h)).view()).unwrap();
        let expected = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let got = (&g * &w).sum();
        assert!((got - expected).abs() < 2e-9 * expected.abs().max(1.0), "{a}: {got} {expected}");
    }
}

#[test]
fn shapes_that_do_not_fit_an_attachment() {
    let (curve, other) = curve_pair(10).unwrap();
    let surface = surface_pair(0).unwrap().0;
    let cloud = Shape::new(noise(5, 2, 0), Cells::Points).unwrap();
    let message =
        |a: &dyn Attachment, s: &Shape, t: &Shape| match Matching::<f64>::new(a, s, t, &device()) {
            Err(e @ LddmmError::Mismatch { .. }) => e.to_string(),
            other => panic!("{:?}", other.map(|_| ())),
        };
    let varifold = families(1.0).swap_remove(2);
    assert_eq!(
        message(&varifold, &curve, &surface),
        "the target: expected 2 coordinates, as the source has, got 3"
    );
    assert!(message(&varifold, &curve, &cloud).contains("got a point cloud"));
    assert!(message(&varifold, &surface, &curve.to_spatial().unwrap()).contains("got segments"));
    assert_eq!(
        message(&Landmarks, &curve, &curve_pair(11).unwrap().0),
        "landmarks: expected 10 vertices in the target, as in the source, got 11"
    );
    let kernel = Kernel::gaussian(1.0).unwrap();
    let bad = oriented_varifold(kernel, 0.0);
    assert!(Matching::<f64>::new(&bad, &curve, &other, &device()).is_err());
    let m = Matching::<f64>::new(&varifold, &curve, &other, &device()).unwrap();
    assert!(m.value(noise(9, 2, 0).view()).is_err());
}

fn with_points(o: Options, points: Option<Array2<f64>>) -> Options {
    match points {
        Some(points) => o.with_control_points(points),
        None => o,
    }
}
fn options() -> Options {
    let varifold = varifold(Kernel::gaussian(0.6).unwrap());
    Options {
        gamma: 0.01,
        steps: 6,
        limits: Limits { iterations: 60, ..Limits::default() },
        ..Options::new(Kernel::gaussian(0.7).unwrap(), varifold)
    }
}
fn go_on(_: &Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn gradients_of_the_cost() {
    for (source, target) in pairs() {
        for control in [false, true] {
            let points = noise(6, source.dim(), 40);
            let o = with_points(options(), control.then(|| points.clone()));
            let r = Registration::<f64>::new(&source, &target, &o, &device()).unwrap();
            let n = r.landmarks().nrows();
            let p = noise(n, source.dim(), 41) * 0.2;
            let w = noise(n, source.dim(), 42);
            let e = r.evaluate(p.view()).unwrap();
            let h = 1e-5;
            let at = |h: f64| r.evaluate((&p + &(&w * h)).view()).unwrap().cost;
            let check = |got: f64, plus: f64, minus: f64| {
                let expected = (plus - minus) / (2.0 * h);
                assert!(
                    (got - expected).abs() < 1e-7 * expected.abs().max(1.0),
                    "{got} {expected}"
                );
            };
            check((&e.momenta * &w).sum(), at(h), at(-h));
            // The gradient in the landmarks, by moving them.
            let moved = |h: f64| {
                let (s, o) = if control {
                    let points = &points + &(&w * h);
                    (source.clone(), o.clone().with_control_points(points))
                } else {
                    let v = &source.vertices() + &(&w * h);
                    (source.with_vertices(v).unwrap(), o.clone())
                };
                let r = Registration::<f64>::new(&s, &target, &o, &device()).unwrap();
                r.evaluate(p.view()).unwrap().cost
            };
            check((&e.positions * &w).sum(), moved(h), moved(-h));
            if let Some(g) = &e.vertices {
                let w = noise(source.vertex_count(), source.dim(), 43);
                let moved = |h: f64| {
                    let s = source.with_vertices(&source.vertices() + &(&w * h)).unwrap();
                    let r = Registration::<f64>::new(&s, &target, &o, &device()).unwrap();
                    r.evaluate(p.view()).unwrap().cost
                };
                check((g * &w).sum(), moved(h), moved(-h));
            }
        }
    }
}

#[test]
fn registrations_end_with_evidence() {
    let (source, target) = curve_pair(60).unwrap();
    let r = Registration::<f64>::new(&source, &target, &options(), &device()).unwrap();
    let (mut costs, mut lines) = (vec![], 0);
    let mut watch = |p: &Progress<'_>| {
        costs.push(p.cost);
        assert_eq!(p.cost, p.energy + p.attachment);
        lines += usize::from(p.to_string().contains("evaluations"));
        ControlFlow::Continue(())
    };
    let o = r.run(None, &mut watch).unwrap();
    let report = &o.report;
    assert!(costs.windows(2).all(|w| w[1] < w[0]) && lines == report.iterations);
    assert!(report.after.cost < 0.03 * report.before.cost, "{report}");
    assert!(report.distances_after.mean() < 0.2 * report.distances_before.mean(), "{report}");
    assert!(report.jacobian.min > 0.0 && report.jacobian.min < 1.0 && report.jacobian.max > 1.0);
    assert!(report.conservation.linear_momentum_drift < 1e-14);
    assert!(report.conservation.hamiltonian_drift < 1e-2);
    let again = r.evaluate(o.momenta.view()).unwrap();
    assert_eq!(again.cost, report.after.cost);
    let h = report.conservation.hamiltonian;
    assert!((again.hamiltonian - h).abs() < 1e-13 * h);
    // It goes through JSON and back.
    let text = serde_json::to_string(report).unwrap();
    assert_eq!(&serde_json::from_str::<keops_lddmm::report::Report>(&text).unwrap(), report);
    // Going on from where it stopped does not go back.
    let more = r.run(Some(o.momenta.view()), &mut go_on).unwrap();
    assert!(more.report.before.cost == report.after.cost);
    assert!(more.report.after.cost <= report.after.cost);
    // Repeating it gives the same bits.
    let same = r.run(None, &mut go_on).unwrap();
    assert_eq!(same.momenta, o.momenta);
}

#[test]
fn the_same_registration_elsewhere_and_in_single_precision() {
    let (source, target) = curve_pair(40).unwrap();
    let o = Options { limits: Limits { iterations: 15, ..Limits::default() }, ..options() };
    let r = Registration::<f64>::new(&source, &target, &o, &device()).unwrap();
    let here = r.run(None, &mut go_on).unwrap();
    // Far from the origin f32 would lose all digits if shapes were not centred.
    let away = |s: &Shape| s.with_vertices(&s.vertices() + 1000.0).unwrap();
    let r = Registration::<f32>::new(&away(&source), &away(&target), &o, &device()).unwrap();
    let there = r.run(None, &mut go_on).unwrap();
    let (a, b) = (here.report.after.cost, there.report.after.cost);
    assert!((a - b).abs() < 0.05 * here.report.before.cost, "{a} {b}");
    assert!(there.report.distances_after.mean() < 0.5 * there.report.distances_before.mean());
    assert!(gap(there.result.vertices(), away(&here.result).vertices()) < 0.1);
}

#[test]
fn control_points_carry_the_shape() {
    let (source, target) = surface_pair(1).unwrap();
    let points = source.vertices().slice(s![..;3, ..]).to_owned();
    let wide = Kernel::gaussian(1.2).unwrap();
    let o = options().with_kernel(wide).with_control_points(points);
    let r = Registration::<f64>::new(&source, &target, &o, &device()).unwrap();
    let o = r.run(None, &mut go_on).unwrap();
    assert!(o.report.after.attachment < 0.1 * o.report.before.attachment, "{}", o.report);
    assert!(o.report.settings.control_points && o.report.settings.landmarks == 14);
}

#[test]
fn interruption_keeps_the_best() {
    struct Stopper;
    impl Observer for Stopper {
        fn iteration(&mut self, _: &Progress<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn evaluation(&mut self, made: usize) -> ControlFlow<()> {
            if made >= 8 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let (source, target) = curve_pair(40).unwrap();
    let r = Registration::<f64>::new(&source, &target, &options(), &device()).unwrap();
    let o = r.run(None, &mut Stopper).unwrap();
    assert_eq!((o.report.stop, o.report.evaluations), (Stop::Interrupted, 8));
    assert!(o.report.after.cost < o.report.before.cost);
    let mut first = |_: &Progress<'_>| ControlFlow::Break(());
    let o = r.run(None, &mut first).unwrap();
    assert_eq!((o.report.stop, o.report.iterations), (Stop::Interrupted, 1));
}

/// A planar shape and a spatial one: an error from every entry point, in both orders.
#[test]
fn planar_and_spatial_shapes_do_not_mix() {
    let (curve, surface) = (curve_pair(12).unwrap().0, surface_pair(0).unwrap().0);
    for (s, t, got) in [(&curve, &surface, "3"), (&surface, &curve, "2")] {
        let expected = LddmmError::Mismatch {
            what: "the target".into(),
            expected: format!("{} coordinates, as the source has", s.dim()),
            got: got.into(),
        };
        for a in families(0.8).into_iter().chain([Arc::new(Landmarks) as Any]) {
            let o = Options { attachment: a.clone(), ..options() };
            let new = Registration::<f64>::new(s, t, &o, &device()).map(|_| ());
            assert_eq!(new, Err(expected.clone()), "{a}");
            let new = Registration::<f32>::new(s, t, &o, &device()).map(|_| ());
            assert_eq!(new, Err(expected.clone()), "{a}");
            let matching = Matching::<f64>::new(&a, s, t, &device()).map(|_| ());
            assert_eq!(matching, Err(expected.clone()), "{a}");
        }
        let e: LddmmError = keops_lddmm::distance::distances(s, t).unwrap_err().into();
        assert!(matches!(e, LddmmError::Mismatch { .. }), "{e}");
    }
    let kernel = Kernel::gaussian(1.0).unwrap();
    let solve = keops_linalg::SolveOptions::ridge(0.0);
    let (q, v) = (noise(5, 2, 0), noise(5, 3, 1));
    let e = keops_lddmm::momenta::with_velocities(&kernel, q.view(), v.view(), &solve, &device());
    assert!(matches!(e, Err(LddmmError::Array { .. })), "{e:?}");
}

#[test]
fn warnings_say_what_went_wrong() {
    let (source, target) = curve_pair(40).unwrap();
    let run = |o: &Options, t: &Shape| {
        Registration::<f64>::new(&source, t, o, &device()).unwrap().run(None, &mut go_on)
    };
    let kinds = |o: &Options, t: &Shape| run(o, t).unwrap().report.warnings;
    assert_eq!(kinds(&options(), &target), []);
    // A kernel that sees nothing but the vertex itself.
    let blind: Any = Arc::new(varifold(Kernel::gaussian(1e-6).unwrap()));
    let all = kinds(&Options { attachment: blind, ..options() }, &target);
    assert!(matches!(all[0], Warning::TargetOutOfSight { overlap } if overlap.abs() < 1e-6));
    // A target that is far away.
    let away = target.with_vertices(&target.vertices() + 50.0).unwrap();
    let all = kinds(&options(), &away);
    assert!(matches!(all[0], Warning::TargetOutOfSight { .. }), "{all:?}");
    // Landmarks that do not know of each other.
    let narrow = options().with_kernel(Kernel::gaussian(1e-6).unwrap());
    let all = kinds(&narrow, &target);
    assert!(all.contains(&Warning::LandmarksApart), "{all:?}");
    // An attachment that pulls away from the target: to the nearest of two shapes is not to all.
    let report = run(&options(), &away).unwrap().report;
    let (before, after) = (report.distances_before.mean(), report.distances_after.mean());
    let grew = report
        .warnings
        .iter()
        .any(|w| matches!(w, Warning::DistanceGrew { distance, .. } if distance == "mean"));
    assert_eq!(grew, after > before * (1.0 + 1e-6), "{report}");
    // All of them are printed and go through JSON.
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<keops_lddmm::report::Report>(&text).unwrap(), report);
    let lines = report.to_string().lines().filter(|l| l.starts_with("warning  ")).count();
    assert_eq!(lines, report.warnings.len());
}

/// From any iteration on, from memory or from a file, a resumed run is the uninterrupted one.
#[test]
fn resumed_registrations_are_the_uninterrupted_ones() {
    fn check<F: Real>(source: &Shape, target: &Shape, o: &Options) {
        let r = Registration::<F>::new(source, target, o, &device()).unwrap();
        let mut saved = vec![];
        let whole = r.run(None, &mut |p: &Progress<'_>| {
            saved.push(p.checkpoint().unwrap().to_bytes().unwrap());
            ControlFlow::Continue(())
        });
        let whole = whole.unwrap();
        assert!(saved.len() >= 10);
        for bytes in saved.iter().step_by(3).chain(saved.last()) {
            let checkpoint = Checkpoint::from_bytes(bytes).unwrap();
            let resumed = r.resume(&checkpoint, &mut go_on).unwrap();
            assert_eq!(resumed.momenta, whole.momenta, "from {}", checkpoint.iterations());
            assert_eq!(resumed.result, whole.result);
            let report = Report { seconds: whole.report.seconds, ..resumed.report };
            assert_eq!(report, whole.report);
        }
        // Left in the middle of an iteration.
        struct Most(usize);
        impl Observer for Most {
            fn iteration(&mut self, _: &Progress<'_>) -> ControlFlow<()> {
                ControlFlow::Continue(())
            }
            fn evaluation(&mut self, made: usize) -> ControlFlow<()> {
                if made >= self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
        }
        for most in 1..6 {
            let part = r.run(None, &mut Most(most)).unwrap();
            let resumed = r.resume(&part.checkpoint, &mut go_on).unwrap();
            assert_eq!(resumed.momenta, whole.momenta, "left at evaluation {most}");
        }
    }
    let o =
        Options { limits: Limits { iterations: 14, memory: 4, ..Limits::default() }, ..options() };
    let (source, target) = curve_pair(30).unwrap();
    check::<f64>(&source, &target, &o);
    check::<f32>(&source, &target, &o);
    let points = Some(noise(6, 3, 3));
    let (source, target) = surface_pair(1).unwrap();
    check::<f64>(
        &source,
        &target,
        &with_points(Options { integrator: Integrator::Rk4, ..o }, points),
    );
}

#[test]
fn checkpoints_of_something_else_are_refused() {
    let (source, target) = curve_pair(12).unwrap();
    let o = Options { limits: Limits { iterations: 2, ..Limits::default() }, ..options() };
    let new =
        |s: &Shape, t: &Shape, o: &Options| Registration::<f64>::new(s, t, o, &device()).unwrap();
    let r = new(&source, &target, &o);
    let checkpoint = r.run(None, &mut go_on).unwrap().checkpoint;
    let refused = |s: &Shape, t: &Shape, o: &Options| {
        let e = new(s, t, o).resume(&checkpoint, &mut go_on).map(|_| ()).unwrap_err();
        assert!(matches!(e.error, LddmmError::Mismatch { .. }), "{e}");
        e.to_string()
    };
    // One bit of one coordinate.
    let mut vertices = source.vertices().to_owned();
    vertices[[3, 1]] = f64::from_bits(vertices[[3, 1]].to_bits() ^ 1);
    let other = source.with_vertices(vertices).unwrap();
    assert!(refused(&other, &target, &o).starts_with("the source of the checkpoint"));
    assert!(refused(&source, &source, &o).starts_with("the target of the checkpoint"));
    let text = refused(&source, &target, &Options { steps: 7, ..o.clone() });
    assert_eq!(text, "the number of steps of the checkpoint: expected 7, got 6");
    let kernel = Kernel::gaussian(0.7 + 1e-15).unwrap();
    refused(&source, &target, &o.clone().with_kernel(kernel));
    // Every cut and every changed byte of a file.
    let bytes = checkpoint.to_bytes().unwrap();
    for k in (0..bytes.len()).step_by(7) {
        assert!(Checkpoint::from_bytes(&bytes[..k]).is_err(), "cut at {k}");
        let mut changed = bytes.clone();
        changed[k] ^= 1;
        assert!(Checkpoint::from_bytes(&changed).map_or(true, |c| c == checkpoint), "byte {k}");
    }
    let text = String::from_utf8(bytes).unwrap().replacen("checkpoint 1", "checkpoint 2", 1);
    let e = Checkpoint::from_bytes(text.as_bytes()).unwrap_err();
    assert!(matches!(e, CheckpointError::Version { got: 2 }), "{e}");
}

/// Scales that single precision does not hold, and scales that no shape has.
#[test]
fn absurd_scales() {
    let (source, target) = curve_pair(12).unwrap();
    for sigma in [1e-30, 1e30] {
        let o = options().with_kernel(Kernel::gaussian(sigma).unwrap());
        let e = Registration::<f32>::new(&source, &target, &o, &device()).map(|_| ()).unwrap_err();
        assert!(matches!(&e, LddmmError::Parameter { name, .. } if name == "sigma"), "{e}");
        let wide = varifold(Kernel::gaussian(sigma).unwrap());
        let e = Matching::<f32>::new(&wide, &source, &target, &device()).map(|_| ()).unwrap_err();
        assert!(matches!(&e, LddmmError::Parameter { name, .. } if name == "sigma"), "{e}");
        assert!(Registration::<f64>::new(&source, &target, &o, &device()).is_ok());
    }
}

#[test]
fn bad_input_to_a_registration() {
    let (source, target) = curve_pair(12).unwrap();
    let new = |o: &Options| Registration::<f64>::new(&source, &target, o, &device()).map(|_| ());
    let parameter = |o: Options, name: &str| match new(&o) {
        Err(LddmmError::Parameter { name: n, .. }) => assert_eq!(n, name),
        other => panic!("{name}: {other:?}"),
    };
    for gamma in [-1.0, f64::NAN, f64::INFINITY] {
        parameter(Options { gamma, ..options() }, "gamma");
    }
    parameter(Options { steps: 0, ..options() }, "steps");
    let limits = Limits { memory: 0, ..Limits::default() };
    parameter(Options { limits, ..options() }, "memory");
    let limits = Limits { cost_tolerance: f64::NAN, ..Limits::default() };
    parameter(Options { limits, ..options() }, "cost_tolerance");
    let points = Some(array![[0.0, f64::NAN]]);
    parameter(with_points(options(), points), "control_points");
    for points in [Array2::zeros((0, 2)), Array2::zeros((3, 3))] {
        let e = new(&options().with_control_points(points));
        assert!(matches!(e, Err(LddmmError::Array { .. })), "{e:?}");
    }
    let r = Registration::<f64>::new(&source, &target, &options(), &device()).unwrap();
    let wrong = Array2::zeros((3, 2));
    assert!(matches!(r.evaluate(wrong.view()), Err(LddmmError::Array { .. })));
    let absurd = Array2::from_elem((12, 2), 1e300);
    let e = r.run(Some(absurd.view()), &mut go_on).map(|_| ()).unwrap_err();
    assert!(matches!(e.error, LddmmError::Breakdown { .. }) && e.reached.is_none(), "{e}");
    // Coordinates that single precision does not hold.
    let huge = |s: &Shape| s.with_vertices(&s.vertices() * 1e40).unwrap();
    let r =
        Registration::<f32>::new(&huge(&source), &huge(&target), &options(), &device()).unwrap();
    assert!(r.run(None, &mut go_on).is_err());
    // A shape that is where it should be.
    let r = Registration::<f64>::new(&source, &source, &options(), &device()).unwrap();
    let o = r.run(None, &mut go_on).unwrap();
    assert_eq!((o.report.after.cost, o.report.distances_after.hausdorff()), (0.0, 0.0));
    assert!(o.report.jacobian.min == 1.0 && o.report.conservation.hamiltonian_drift == 0.0);
}

/// The implicit midpoint scheme conserves quadratic invariants to rounding, and goes back the way it
/// came; explicit schemes do so to their order only.
#[test]
fn implicit_midpoint_conserves_and_returns() {
    let s = shooting::<f64>(3, Integrator::ImplicitMidpoint, 8);
    let start = landmarks(9, 3, 4).with_silent(noise(5, 3, 8).view()).unwrap();
    let trajectory = s.shoot(start.clone()).unwrap();
    let angular = |s: &State<f64>| {
        let m = s.q().t().dot(&s.p());
        &m - &m.t()
    };
    let first = angular(&start);
    for state in trajectory.states() {
        assert!(gap(angular(state).view(), first.view()) < 1e-13, "angular momentum");
        let p = state.p().sum_axis(Axis(0)) - start.p().sum_axis(Axis(0));
        assert!(p.iter().all(|v| v.abs() < 1e-14), "linear momentum");
    }
    let mut back = trajectory.end().clone();
    back.p_mut().mapv_inplace(|p| -p);
    let returned = s.shoot(back).unwrap().end().clone();
    assert!(gap(returned.q(), start.q()) < 1e-13 && gap(returned.x(), start.x()) < 1e-13);
    // Points that are carried afterwards move as silent ones.
    let places = s.carry(&trajectory, start.x()).unwrap();
    for (x, state) in places.iter().zip(trajectory.states()) {
        assert!(gap(x.view(), state.x()) < 1e-14);
    }
    // Of a step whose equation has no solution there is an error, not a wrong step.
    let grows = Kernel::from_text("D").unwrap();
    let s = Shooting::<f64>::new(&grows, 2, Integrator::ImplicitMidpoint, 1, &device()).unwrap();
    let (q, p) = (array![[0.0, 0.0], [1.0, 0.0]], array![[50.0, 0.0], [-50.0, 1.0]]);
    let e = s.shoot(State::new(q.view(), p.view()).unwrap()).unwrap_err();
    assert_eq!(e, LddmmError::Implicit { step: 1, steps: 1 });
}

/// The Sinkhorn divergence is symmetric, keeps its value under rigid motions, is 0 for a shape and itself,
/// and of points that all move by one vector it is half the square of that.
#[test]
fn sinkhorn_is_a_distance_of_transport() {
    let (source, target) = curve_pair(24).unwrap();
    let any: Any = Arc::new(Sinkhorn::new(0.2).unwrap());
    let v = value(&any, &source, &target);
    assert!(v > 1e-3 && (value(&any, &target, &source) - v).abs() < 1e-9);
    assert!(value(&any, &source, &source).abs() < 1e-12);
    let moved =
        |s: &Shape, by: [f64; 2]| s.with_vertices(&s.vertices() + &array![by[0], by[1]]).unwrap();
    let both = value(&any, &moved(&source, [3.0, -1.0]), &moved(&target, [3.0, -1.0]));
    assert!((both - v).abs() < 1e-9, "{both} {v}");
    let far = value(&any, &source, &moved(&source, [30.0, 40.0]));
    assert!((far - 1250.0).abs() < 1e-7, "{far}");
    // Clouds of other numbers of points; a measure without mass.
    let cloud = |n: usize| Shape::new(noise(n, 3, 5), Cells::Points).unwrap();
    assert!(value(&any, &cloud(7), &cloud(12)) > 0.0);
    let nothing =
        Shape::new(array![[0.0, 0.0], [0.0, 0.0]], Cells::Segments(vec![[0, 1]])).unwrap();
    let e = Matching::<f64>::new(&any, &nothing, &source, &device()).unwrap();
    assert!(e.value(nothing.vertices()).is_err());
    assert!(Sinkhorn::new(0.0).is_err() && Sinkhorn::new(f64::NAN).is_err());
}

/// Gradients with few states kept are those with all, bit for bit, for every scheme and number of steps.
#[test]
fn sparse_flows_have_the_same_gradients() {
    let (source, target) = curve_pair(14).unwrap();
    let p = 0.3 * noise(14, 2, 3);
    for scheme in Integrator::ALL {
        for steps in [1, 2, 3, 7, 12] {
            let o = Options { integrator: scheme, steps, ..options() };
            let of = |sparse: bool| {
                let o = Options { sparse, ..o.clone() };
                let r = Registration::<f64>::new(&source, &target, &o, &device()).unwrap();
                r.evaluate(p.view()).unwrap()
            };
            let (all, few) = (of(false), of(true));
            assert_eq!(
                (all.cost, all.momenta, all.positions),
                (few.cost, few.momenta, few.positions)
            );
        }
    }
}

/// Products with the Hessian of the cost: γ + 2 times the direction for one landmark, whose flow is a
/// straight line; else symmetric, and the second derivative of costs along a line.
#[test]
fn hessian_products_of_costs() {
    let point = |x: f64| Shape::new(array![[x, 0.5]], Cells::Points).unwrap();
    let o = Options { gamma: 0.3, ..Options::new(Kernel::gaussian(1.0).unwrap(), Landmarks) };
    let r = Registration::<f64>::new(&point(0.0), &point(2.0), &o, &device()).unwrap();
    let v = array![[0.7, -1.3]];
    let product = r.hessian_product(array![[1.0, 2.0]].view(), v.view()).unwrap();
    assert!(gap(product.view(), (2.3 * &v).view()) < 1e-8, "{product}");

    let (source, target) = curve_pair(16).unwrap();
    let r = Registration::<f64>::new(&source, &target, &options(), &device()).unwrap();
    let (p, u, v) = (0.2 * noise(16, 2, 1), noise(16, 2, 2), noise(16, 2, 3));
    let along = |v: &Array2<f64>| r.hessian_product(p.view(), v.view()).unwrap();
    let (hu, hv) = (along(&u), along(&v));
    let (a, b) = ((&u * &hv).sum(), (&v * &hu).sum());
    assert!((a - b).abs() < 1e-7 * a.abs().max(b.abs()).max(1.0), "{a} {b}");
    let cost = |h: f64| r.evaluate((&p + &(h * &v)).view()).unwrap().cost;
    let h = 2e-3;
    let second = (16.0 * (cost(h) + cost(-h)) - cost(2.0 * h) - cost(-2.0 * h) - 30.0 * cost(0.0))
        / (12.0 * h * h);
    let got = (&v * &hv).sum();
    assert!((got / second - 1.0).abs() < 1e-5, "{got} {second}");
    // The product is linear: also of directions whose squares leave the range.
    let huge = along(&(&v * 1e200));
    assert!(gap((&huge / 1e200).view(), hv.view()) < 1e-6);
    let e = r.hessian_product(p.view(), (&v * f64::NAN).view()).unwrap_err().to_string();
    assert!(e.contains("direction") && e.contains("NaN"), "{e}");
    // In single precision two digits.
    let r = Registration::<f32>::new(&source, &target, &options(), &device()).unwrap();
    let single = r.hessian_product(p.view(), v.view()).unwrap();
    let size = hv.fold(0.0f64, |m, x| m.max(x.abs()));
    assert!(gap(single.view(), hv.view()) < 2e-2 * size);
}
