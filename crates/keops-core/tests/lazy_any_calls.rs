//! Any sequence of calls gives a LazyTensor that can be reduced or carries an error.

use keops_core::composite::{self, Literal};
use keops_core::genred::Reference;
use keops_core::graph::Category;
use keops_core::lazy::LazyTensor;
use keops_core::ops;
use keops_core::reduce;
use keops_core::spec::Axis;
use ndarray::Array2;
use proptest::prelude::*;
use proptest::sample::Index;

type Lazy = LazyTensor<f64, Reference>;

/// Integers where operations may stumble.
fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => -1i64..6,
        1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX, 1 << 20, 1 << 31, 1 << 62]),
    ]
}
fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        3 => integer().prop_map(Literal::Int),
        2 => prop::collection::vec(integer(), 0..4).prop_map(Literal::List),
    ]
}
type Step = (Index, Vec<Index>, Vec<Literal>, bool);
fn step() -> impl Strategy<Value = Step> {
    let operands = prop::collection::vec(any::<Index>(), 1..4);
    (any::<Index>(), operands, prop::collection::vec(literal(), 0..6), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_calls_give_a_value_or_an_error(
        steps in prop::collection::vec(step(), 1..7),
        reduction in any::<Index>(),
        k in prop::sample::select(vec![0usize, 1, 3, usize::MAX]),
        axis in prop::sample::select(vec![Axis::I, Axis::J]),
    ) {
        let array = |rows: usize, d: usize| Array2::from_shape_fn((rows, d), |(i, k)| {
            [0.5, -1.0, 0.0, 2.0, f64::NAN, f64::INFINITY, 1e-310][(i * d + k) % 7]
        });
        let mut known: Vec<Lazy> = vec![
            Lazy::vi(array(3, 2)),
            Lazy::vj(array(2, 2)),
            Lazy::vj(array(2, 4)),
            Lazy::pm(ndarray::arr1(&[0.5, 1.5, 3.0])),
            Lazy::vi(array(3, 1)),
            Lazy::scalar(0.3),
            Lazy::constant(2.0),
            Lazy::i(),
        ];
        let names: Vec<&str> =
            ops::ALL.iter().map(|o| o.name).chain(composite::ALL.iter().map(|c| c.name)).collect();
        for (name, operands, literals, fitting) in &steps {
            let name = *name.get(&names);
            let mut x: Vec<&Lazy> = operands.iter().map(|at| at.get(&known)).collect();
            let mut literals = literals.clone();
            // Half of the calls have a right number of operands and literals.
            if *fitting {
                let (operands, most) = match (ops::by_name(name), composite::by_name(name)) {
                    (Some(op), _) => (op.arity, 0),
                    (_, Some(op)) => (op.operands.0, op.literals.1),
                    _ => unreachable!("names are from the tables"),
                };
                x = (0..operands).map(|k| x[k % x.len()]).collect();
                literals.truncate(most);
            }
            let made = x[0].call(name, &x[1..], &literals);
            if made.dim().is_ok_and(|d| d <= 64) {
                known.push(made);
            }
        }
        let last = known.last().unwrap();
        let def = *reduction.get(reduce::ALL);
        let _ = (last.shape(), last.formula().map(|f| f.to_string()), format!("{last:?}"));
        let _ = last.reduce((def, k), axis);
        let _ = last.t().reduce(def, axis);
        let _ = last.bound_weighted(&known[0], def, axis).map(|r| r.call_all(()));
        if let Ok(r) = last.sum_reduction(axis) {
            let variables = known[..5].iter().filter_map(|v| r.vjp(v).and_then(|g| g.jvp(v)).ok());
            variables.for_each(|g| drop(format!("{g:?}")));
        }
    }

    #[test]
    fn symbolic_variables_of_any_kind(
        position in prop::sample::select(vec![0usize, 1, 7, usize::MAX]),
        dim in prop::sample::select(vec![0usize, 1, 3, 1 << 20, (1 << 20) + 1, usize::MAX]),
        category in prop::sample::select(vec![Category::I, Category::J, Category::Param]),
    ) {
        let v = Lazy::var(position, dim, category);
        prop_assert_eq!(v.check().is_ok(), (1..=1 << 20).contains(&dim));
        let made = v.genred(&reduce::SUM, Axis::J);
        prop_assert_eq!(made.is_ok(), v.check().is_ok() && position == 0);
    }
}
