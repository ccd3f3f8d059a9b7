//! Calls that are in no table: constants, and forms of the graph itself.

use super::{Located, Parser};
use crate::composite::Literal;
use crate::error::{ParseError, Span};
use crate::graph::{Ex, MAX_DIM, Node};

/// Names of calls that are in no table, as they have no operands or belong to the graph itself.
pub(super) const FORMS: [&str; 14] = [
    "Vi", "Vj", "Pm", "Var", "Vx", "Vy", "IntCst", "IntInv", "RatCst", "Zero", "Ind", "Iota",
    "Put", "Einsum",
];

impl<'b> Parser<'b, '_> {
    /// Constants and the structural forms; `None` if `name` is none of them.
    pub(super) fn form(
        &self,
        name: &str,
        args: &[Located<'b>],
        span: Span,
    ) -> Result<Option<Ex<'b>>, ParseError> {
        let b = self.builder;
        let fail = |usage: &str| Err(self.error(span, &format!("expected {usage}")));
        let ints: Option<Vec<i64>> = args.iter().map(Located::integer).collect();
        let ints = ints.as_deref();
        let dim = |v: i64| (1..=MAX_DIM as i64).contains(&v).then_some(v as usize);
        Ok(Some(match name {
            "IntCst" => match ints {
                Some([v]) => b.lit(*v as f64),
                _ => return fail("IntCst(integer)"),
            },
            "IntInv" => match ints {
                Some([v]) if *v != 0 => b.lit(1.0 / *v as f64),
                _ => return fail("IntInv(integer), not 0"),
            },
            "RatCst" => match ints {
                Some([p, q]) if *q != 0 => b.lit(*p as f64 / *q as f64),
                _ => return fail("RatCst(integer, integer), the second not 0"),
            },
            "Zero" => match ints {
                Some([d]) if dim(*d).is_some() => b.lit(0.0).broadcast(*d as usize),
                _ => return fail(&format!("Zero(dim) with 1 <= dim <= {MAX_DIM}")),
            },
            "Iota" => match ints {
                Some([d]) if dim(*d).is_some() => b.node(Node::Iota(*d as usize)),
                _ => return fail(&format!("Iota(dim) with 1 <= dim <= {MAX_DIM}")),
            },
            "Put" => {
                let usage = "Put(a, start, step, dim) with every start + k step below dim";
                let [a, rest @ ..] = args else { return fail(usage) };
                let a = self.as_formula(a)?;
                let rest: Option<Vec<i64>> = rest.iter().map(Located::integer).collect();
                match rest.as_deref() {
                    Some([start, step, d]) if *start >= 0 && *step >= 1 && dim(*d).is_some() => {
                        let last =
                            (a.dim() as i64 - 1).saturating_mul(*step).saturating_add(*start);
                        if last >= *d {
                            return fail(usage);
                        }
                        a.put(*start as usize, *step as usize, *d as usize)
                    }
                    _ => return fail(usage),
                }
            }
            "Einsum" => self.einsum(args, span)?,
            _ => return Ok(None),
        }))
    }
    fn einsum(&self, args: &[Located<'b>], span: Span) -> Result<Ex<'b>, ParseError> {
        let usage = "expected Einsum([extents], a, [indices of a], …, [indices of the result]) \
                     with at most 16 indices";
        let fail = |m: &str| Err(self.error(span, m));
        let list = |a: &Located<'b>| match a.literal() {
            Some(Literal::List(v)) => {
                v.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>().ok()
            }
            _ => None,
        };
        let [extents, operands @ .., out] = args else { return fail(usage) };
        let (Some(extents), Some(out)) = (list(extents), list(out)) else { return fail(usage) };
        if extents.len() > 16 || operands.is_empty() || operands.len() % 2 == 1 {
            return fail(usage);
        }
        let size = |labels: &[usize]| -> Option<(usize, Vec<u8>)> {
            let dims =
                labels.iter().map(|&l| extents.get(l).copied()).collect::<Option<Vec<_>>>()?;
            let total = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d))?;
            Some((total, labels.iter().map(|&l| l as u8).collect()))
        };
        let distinct = |l: &[usize]| l.iter().enumerate().all(|(k, v)| !l[..k].contains(v));
        let mut terms: Vec<(Ex<'b>, Vec<u8>)> = vec![];
        for pair in operands.chunks_exact(2) {
            let e = self.as_formula(&pair[0])?;
            match list(&pair[1]).as_deref().and_then(size) {
                Some((d, axes)) if d == e.dim() => terms.push((e, axes)),
                Some((d, _)) => {
                    let m = format!(
                        "Einsum: an operand of dimension {} has indices of extent {d}",
                        e.dim()
                    );
                    return Err(self.error(pair[0].span, &m));
                }
                None => return fail(usage),
            }
        }
        let (Some((dim, axes)), Some((work, _))) =
            (size(&out), size(&Vec::from_iter(0..extents.len())))
        else {
            return fail(usage);
        };
        if work == 0 || work > 1 << 40 || dim > MAX_DIM || !distinct(&out) {
            return fail(&format!(
                "Einsum: expected extents of at least 1, distinct indices of the result and at most \
                 {MAX_DIM} components"
            ));
        }
        let operands: Vec<(Ex<'b>, &[u8])> = terms.iter().map(|(e, a)| (*e, &a[..])).collect();
        Ok(terms[0].0.contract(extents, &operands, &axes))
    }
}
