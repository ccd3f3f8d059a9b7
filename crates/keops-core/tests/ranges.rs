//! Block-sparse ranges against matrices of booleans and plain loops.

use keops_core::genred::{Genred, Reference};
use keops_core::ranges::{Pattern, Ranges, Triple, cluster_ranges, sort_clusters};
use keops_core::reduce::{ARG_K_MIN, LOG_SUM_EXP, MIN, SUM};
use keops_core::spec::Axis;
use ndarray::{Array2, Array3, ArrayD, Axis as NdAxis, array, s};
use proptest::prelude::*;

/// How often each pair occurs in a pattern.
fn count(p: &Pattern, kept: usize, reduced: usize) -> Array2<u32> {
    let mut out = Array2::zeros((kept, reduced));
    let mut first = 0;
    for (k, block) in p.blocks.iter().enumerate() {
        for r in &p.reduced[first..p.slices[k]] {
            for a in block[0]..block[1] {
                (r[0]..r[1]).for_each(|b| out[[a, b]] += 1);
            }
        }
        first = p.slices[k];
    }
    out
}
/// The pairs of ranges, checked to be the same from both sides.
fn pairs(r: &Ranges, m: usize, n: usize) -> Array2<bool> {
    r.check(m, n).unwrap();
    let mask = count(r.pattern(Axis::J).unwrap(), m, n);
    assert_eq!(mask, count(r.pattern(Axis::I).unwrap(), n, m).t());
    assert_eq!(r.pairs(), mask.iter().map(|&c| u64::from(c)).sum::<u64>());
    mask.mapv(|c| {
        assert!(c <= 1);
        c == 1
    })
}
fn message<T: std::fmt::Debug>(r: Result<T, keops_core::error::InputError>) -> String {
    r.unwrap_err().to_string()
}

const M: usize = 13;
const N: usize = 11;

/// Disjoint ranges of `0..n`, in any order.
fn disjoint(n: usize, most: usize) -> impl Strategy<Value = Vec<[usize; 2]>> {
    prop::collection::btree_set(0..=n, 0..=2 * most)
        .prop_map(|cuts| {
            let cuts: Vec<usize> = cuts.into_iter().collect();
            cuts.chunks_exact(2).map(|c| [c[0], c[1]]).collect::<Vec<_>>()
        })
        .prop_shuffle()
}
fn pattern() -> impl Strategy<Value = Pattern> {
    disjoint(M, 4).prop_flat_map(|blocks| {
        let met = prop::collection::vec(disjoint(N, 3), blocks.len());
        (Just(blocks), met).prop_map(|(blocks, met)| {
            let slices = met.iter().scan(0, |n, m| {
                *n += m.len();
                Some(*n)
            });
            Pattern { slices: slices.collect(), blocks, reduced: met.concat() }
        })
    })
}
type Arrays = (Vec<[i64; 2]>, Vec<i64>, Vec<[i64; 2]>);
fn arrays(p: &Pattern) -> Arrays {
    let pairs = |v: &[[usize; 2]]| v.iter().map(|r| r.map(|e| e as i64)).collect();
    (pairs(&p.blocks), p.slices.iter().map(|&v| v as i64).collect(), pairs(&p.reduced))
}
fn triple(a: &Arrays) -> Triple<'_> {
    (&a.0, &a.1, &a.2)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pattern_and_its_transpose_mean_the_same_pairs(p in pattern()) {
        let mask = count(&p, M, N).mapv(|c| c == 1);
        let ranges = Ranges::from_pattern(p.clone()).unwrap();
        prop_assert_eq!(&pairs(&ranges, M, N), &mask);
        prop_assert_eq!(pairs(&ranges.swap_axes(), N, M), mask.t());
        // All ways in; each half alone, and the other one derived.
        let (over_j, over_i) = (arrays(&p), arrays(ranges.pattern(Axis::I).unwrap()));
        for (a, b) in [(true, true), (true, false), (false, true)] {
            let a = a.then(|| triple(&over_j));
            let b = b.then(|| triple(&over_i));
            prop_assert_eq!(&pairs(&Ranges::from_arrays(a, b).unwrap(), M, N), &mask);
        }
        // Out as clusters, and back.
        let (rows, columns, met) = ranges.clusters().unwrap();
        let keep = Array2::from_shape_fn((rows.len(), columns.len()), |k| met.contains(&k));
        let again = Ranges::from_matrix(&rows, &columns, keep.view()).unwrap();
        prop_assert_eq!(pairs(&again, M, N), mask);
    }

    #[test]
    fn triples_of_different_pairs_are_refused(p in pattern(), q in pattern()) {
        let other = Ranges::from_pattern(q.clone()).unwrap();
        let (a, b) = (count(&p, M, N), count(&q, M, N));
        let over_i = arrays(other.pattern(Axis::I).unwrap());
        let made = Ranges::from_arrays(Some(triple(&arrays(&p))), Some(triple(&over_i)));
        if a == b {
            prop_assert!(made.is_ok());
        } else {
            let m = message(made);
            let (k, _) = a.iter().zip(&b).enumerate().find(|(_, (a, b))| a != b).unwrap();
            let half = if a.iter().nth(k) > b.iter().nth(k) { "ranges_i" } else { "ranges_j" };
            let expected = format!("row {} meets column {} only in {half}", k / N, k % N);
            prop_assert!(m.contains(&expected), "{}, expected {}", m, expected);
        }
    }

    #[test]
    fn any_arrays_give_ranges_or_an_error(
        blocks in prop::collection::vec(prop::array::uniform2(-2i64..9), 0..4),
        slices in prop::collection::vec(-1i64..5, 0..4),
        reduced in prop::collection::vec(prop::array::uniform2(-2i64..9), 0..4),
        extreme in prop::sample::select(vec![i64::MIN, -1, i64::MAX]),
    ) {
        let mut some = (blocks, slices, reduced);
        for round in 0..2 {
            let (one, other) = (Some(triple(&some)), Some(triple(&some)));
            let made = [(one, None), (None, other), (one, other)];
            for r in made.into_iter().filter_map(|(j, i)| Ranges::from_arrays(j, i).ok()) {
                let _ = (r.check(3, 4), r.pairs(), r.swap_axes(), r.clusters());
                let _ = r.pattern(Axis::J).unwrap().of_block(usize::MAX);
            }
            if round == 0 {
                some.0.iter_mut().take(1).for_each(|b| b[1] = extreme);
                some.2.iter_mut().take(1).for_each(|b| b[1] = extreme);
            }
        }
    }
}

#[test]
fn malformed_ranges_say_what_is_wrong() {
    let p = |blocks: &[[usize; 2]], slices: &[usize], reduced: &[[usize; 2]]| {
        let (blocks, slices, reduced) = (blocks.to_vec(), slices.to_vec(), reduced.to_vec());
        message(Ranges::from_pattern(Pattern { blocks, slices, reduced }))
    };
    assert!(p(&[[0, 1]], &[], &[]).contains("slices_i has 0 entries, ranges_i has 1 blocks"));
    assert!(p(&[[3, 1]], &[0], &[]).contains("ranges_i[0] = [3, 1] ends before it starts"));
    assert!(p(&[[0, 1]], &[1], &[[2, 0]]).contains("redranges_j[0] = [2, 0] ends before"));
    assert!(p(&[[0, 1]], &[2], &[[0, 1]]).contains("slices_i[0] = 2 must lie between 0 and the 1"));
    assert!(
        p(&[[0, 1], [1, 2]], &[1, 0], &[[0, 1]]).contains("slices_i[1] = 0 must lie between 1")
    );
    let m = p(&[[2, 4], [0, 3]], &[0, 0], &[]);
    assert!(m.contains("[0, 3) and [2, 4) overlap, so rows would have two results"), "{m}");
    let m = p(&[[0, 1]], &[2], &[[0, 3], [2, 4]]);
    assert!(m.contains("[0, 3) and [2, 4) of block 0 overlap, so pairs would count twice"), "{m}");
    let half = (vec![[0, 1]], vec![1], vec![[0, -3]]);
    let m = message(Ranges::from_arrays(None, Some(triple(&half))));
    assert!(m.contains("redranges_i[0] holds -3"), "{m}");
    assert!(message(Ranges::from_arrays(None, None)).contains("both halves"));
    let ranges = Ranges::from_clusters(&[2], &[5], &[true]).unwrap();
    assert!(message(ranges.check(1, 5)).contains("ranges_i[0] = [0, 2] is not within the 1 rows"));
    assert!(message(ranges.check(2, 4)).contains("redranges_j[0] = [0, 5] is not within the 4"));
    assert!(Ranges::from_clusters(&[2, 1], &[5], &[true, true]).is_err());
    assert!(
        message(Ranges::from_clusters(&[1, 2], &[5], &[true]))
            .contains("1 entries, expected 2 x 1")
    );
    let keep = Array2::from_elem((1, 2), true);
    let m = message(Ranges::from_matrix(&[[0, 1]], &[[0, 1]], keep.view()));
    assert!(m.contains("the mask has shape [1, 2], expected (1, 1)"), "{m}");
}

#[test]
fn labels_and_bands() {
    let labels = [3, 0, 3, 1, 0];
    let order = sort_clusters(&labels).unwrap();
    assert_eq!(order, [1, 4, 3, 0, 2]);
    let sorted: Vec<usize> = order.iter().map(|&k| labels[k]).collect();
    assert_eq!(cluster_ranges(&sorted).unwrap(), [[0, 2], [2, 3], [3, 3], [3, 5]]);
    assert_eq!(cluster_ranges(&[]).unwrap(), [[0, 0]; 0]);
    assert!(message(cluster_ranges(&labels)).contains("that of row 1 is less than that of row 0"));
    assert!(message(cluster_ranges(&[usize::MAX])).contains("is too large"));

    let (i, j) = ([0, 0, 1, 3, 3], [0, 1, 1, 2, 3, 3]);
    let same = Array2::from_shape_fn((5, 6), |(k, l)| i[k] == j[l]);
    assert_eq!(pairs(&Ranges::same_labels(&i, &j).unwrap(), 5, 6), same);
    assert!(Ranges::same_labels(&[1, 0], &j).is_err());
    let keep = array![
        [true, false, true, false],
        [false, true, true, true],
        [true, true, true, true],
        [false, false, false, true]
    ];
    let mask = Array2::from_shape_fn((5, 6), |(k, l)| keep[[i[k], j[l]]]);
    assert_eq!(pairs(&Ranges::from_labels(&i, &j, keep.view()).unwrap(), 5, 6), mask);
    let few = keep.slice(s![..3, ..]);
    assert!(message(Ranges::from_labels(&i, &j, few)).contains("label 3 of i: the mask has 3"));

    for (m, n) in [(0, 0), (0, 3), (3, 0), (1, 1), (7, 4), (4, 7)] {
        for (below, above) in [(0, 0), (1, 0), (0, 2), (3, 1), (usize::MAX, usize::MAX)] {
            let inside =
                |i: usize, j: usize| i.saturating_sub(j) <= below && j.saturating_sub(i) <= above;
            let mask = Array2::from_shape_fn((m, n), |(i, j)| inside(i, j));
            assert_eq!(pairs(&Ranges::band(m, n, below, above).unwrap(), m, n), mask);
        }
    }
    // What is too large is found before rows are walked through.
    assert!(Ranges::band(usize::MAX, usize::MAX, 1, 1).is_err());
    let all = Ranges::band(usize::MAX, usize::MAX - 1, usize::MAX, usize::MAX).unwrap();
    assert_eq!(all.pattern(Axis::J).unwrap().blocks, [[0, usize::MAX]]);
    assert_eq!(all.pattern(Axis::I).unwrap().reduced, [[0, usize::MAX]]);
    assert_eq!(Ranges::band(9, 9, 9, 9).unwrap().pattern(Axis::J).unwrap().blocks, [[0, 9]]);
}

fn points(shape: (usize, usize, usize), phase: f64) -> Array3<f64> {
    Array3::from_shape_fn(shape, |(b, i, k)| ((b * 5 + i * 3 + k) as f64 * 0.9 + phase).sin())
}

/// Every reduction and gradient under ranges, with batches, against masked loops.
#[test]
fn reductions_and_gradients_see_only_the_pairs_of_ranges() {
    let (batches, m, n, d) = (2, 6, 7, 2);
    let ranges = Ranges::from_clusters(
        &[2, 3, 6],
        &[1, 4, 7],
        &[true, false, true, false, false, false, false, true, true],
    )
    .unwrap();
    let mask = pairs(&ranges, m, n);
    let (x, y, b) =
        (points((batches, m, d), 0.0), points((1, n, d), 1.0), points((batches, n, 1), 2.0));
    let aliases = ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)"];
    let genred = |formula: &str, r, axis| -> Genred<Reference> {
        Genred::new(formula, aliases, r, axis).unwrap().ranges(ranges.clone())
    };
    let at = |q: usize, i: usize, j: usize| {
        let (p, r) = (x.slice(s![q, i, ..]), y.slice(s![0, j, ..]));
        let d2 = (&p - &r).mapv(|v| v * v).sum();
        ((-d2).exp() * b[[q, j, 0]], &p - &r, (-d2).exp())
    };
    let close = |got: &ArrayD<f64>, index: &[usize], want: f64| {
        assert!((got[index] - want).abs() <= 1e-13 * want.abs().max(1.0), "{} {want}", got[index]);
    };
    let kernel = "Exp(-SqDist(x, y)) * b";
    let over_j = genred(kernel, &SUM, Axis::J);
    let over_i = genred(kernel, &SUM, Axis::I);
    let (sum_j, sum_i) = (over_j.call((&x, &y, &b)).unwrap(), over_i.call((&x, &y, &b)).unwrap());
    let (min, lse) = (genred(kernel, &MIN, Axis::J), genred(kernel, &LOG_SUM_EXP, Axis::J));
    let (min, lse) = (min.call((&x, &y, &b)).unwrap(), lse.call((&x, &y, &b)).unwrap());
    let nearest: Genred<Reference> =
        Genred::new(kernel, aliases, (&ARG_K_MIN, 3), Axis::J).unwrap().ranges(ranges.clone());
    let nearest = nearest.call_indices((&x, &y, &b)).unwrap();
    let e = points((batches, m, 1), 0.3);
    let gradients = over_j.vjp_all().unwrap().call_all((&x, &y, &b, &e)).unwrap();
    let mut want = [x.mapv(|_| 0.0), y.mapv(|_| 0.0), b.mapv(|_| 0.0)];
    for q in 0..batches {
        for i in 0..m {
            let met: Vec<usize> = (0..n).filter(|&j| mask[[i, j]]).collect();
            let values: Vec<f64> = met.iter().map(|&j| at(q, i, j).0).collect();
            close(&sum_j, &[q, i, 0], values.iter().sum());
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            assert_eq!(min[[q, i, 0]], least);
            match values.is_empty() {
                true => assert_eq!(lse[[q, i, 0]], f64::NEG_INFINITY),
                false => close(&lse, &[q, i, 0], values.iter().map(|v| v.exp()).sum::<f64>().ln()),
            }
            let mut best: Vec<usize> = (0..met.len()).collect();
            best.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
            let best = (0..3).map(|k| best.get(k).map_or(-1, |&at| met[at] as i64));
            assert!(best.eq(nearest.slice(s![q, i, ..]).iter().copied()));
            for &j in &met {
                let (v, delta, k) = at(q, i, j);
                let slope = &delta * (-2.0 * v * e[[q, i, 0]]);
                want[0].slice_mut(s![q, i, ..]).scaled_add(1.0, &slope);
                want[1].slice_mut(s![0, j, ..]).scaled_add(-1.0, &slope);
                want[2][[q, j, 0]] += k * e[[q, i, 0]];
            }
        }
        for j in 0..n {
            close(
                &sum_i,
                &[q, j, 0],
                (0..m).filter(|&i| mask[[i, j]]).map(|i| at(q, i, j).0).sum(),
            );
        }
    }
    for (got, want) in gradients.iter().zip(&want) {
        assert_eq!(got.shape(), want.shape());
        assert!((got - want).iter().all(|d| d.abs() < 1e-13), "{got} {want}");
    }
    // The union of ranges over disjoint columns is the sum of both.
    let part = |keep: [bool; 3]| {
        let keep = Array2::from_shape_fn((1, 3), |(_, l)| keep[l]);
        let r = Ranges::from_matrix(&[[0, m]], &[[0, 1], [1, 4], [4, n]], keep.view()).unwrap();
        genred(kernel, &SUM, Axis::J).ranges(r).call((&x, &y, &b)).unwrap()
    };
    let union = part([true, true, false]);
    assert!(
        (&union - part([true, false, false]) - part([false, true, false]))
            .iter()
            .all(|d| d.abs() < 1e-14)
    );
    let all: Genred<Reference> = Genred::new(kernel, aliases, &SUM, Axis::J).unwrap();
    let all = all.call((&x, &y, &b)).unwrap();
    assert!((&part([true; 3]) - &all).iter().all(|d| d.abs() < 1e-14));
    assert_eq!(all.len_of(NdAxis(1)), m);
}
