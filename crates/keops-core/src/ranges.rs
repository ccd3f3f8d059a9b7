//! Block-sparse reductions: which blocks of rows meet which ranges of columns.

use crate::error::InputError;
use crate::spec::Axis;

/// Blocks of kept rows, each with the ranges of reduced rows that it meets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pattern {
    /// `[start, end)` of kept rows.
    pub blocks: Vec<[usize; 2]>,
    /// One past the last entry of `reduced` of each block (an implicit 0 comes first).
    pub slices: Vec<usize>,
    /// `[start, end)` of reduced rows.
    pub reduced: Vec<[usize; 2]>,
}

impl Pattern {
    /// Ranges of reduced rows that block `k` meets.
    pub fn of_block(&self, k: usize) -> &[[usize; 2]] {
        let start = if k == 0 { 0 } else { self.slices[k - 1] };
        &self.reduced[start..self.slices[k]]
    }
    fn check(&self, kept: usize, reduced: usize, names: [&str; 3]) -> Result<(), InputError> {
        let fail = |m: String| Err(InputError::Ranges(m));
        if self.slices.len() != self.blocks.len() {
            return fail(format!(
                "{} has {} entries, {} has {} blocks: they must agree",
                names[1],
                self.slices.len(),
                names[0],
                self.blocks.len()
            ));
        }
        for (list, name, limit) in
            [(&self.blocks, names[0], kept), (&self.reduced, names[2], reduced)]
        {
            for (k, [a, b]) in list.iter().enumerate() {
                if a > b || *b > limit {
                    return fail(format!(
                        "{name}[{k}] = [{a}, {b}) is not within the {limit} rows"
                    ));
                }
            }
        }
        let mut last = 0;
        for (k, &s) in self.slices.iter().enumerate() {
            if s < last || s > self.reduced.len() {
                return fail(format!(
                    "{}[{k}] = {s} must lie between {last} and the {} entries of {}",
                    names[1],
                    self.reduced.len(),
                    names[2]
                ));
            }
            last = s;
        }
        let mut sorted: Vec<_> = self.blocks.iter().filter(|b| b[0] < b[1]).collect();
        sorted.sort();
        for w in sorted.windows(2) {
            if w[0][1] > w[1][0] {
                return fail(format!(
                    "{}: [{}, {}) and [{}, {}) overlap, so rows would have two results",
                    names[0], w[0][0], w[0][1], w[1][0], w[1][1]
                ));
            }
        }
        Ok(())
    }
}

/// Block-sparse ranges for both axes, as KeOps' six arrays. Ranges are per batch element and
/// shared by all batch elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// For reductions over `j`: blocks of `i` and the ranges of `j` they meet.
    pub over_j: Pattern,
    /// For reductions over `i`: blocks of `j` and the ranges of `i` they meet.
    pub over_i: Pattern,
}

impl Ranges {
    /// From the pattern over `j`; the one over `i` is derived by transposition.
    pub fn from_pattern(over_j: Pattern) -> Ranges {
        let over_i = transpose(&over_j);
        Ranges { over_j, over_i }
    }
    /// From KeOps' six arrays `(ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i)`.
    pub fn from_arrays(
        over_j: (&[[i64; 2]], &[i64], &[[i64; 2]]),
        over_i: (&[[i64; 2]], &[i64], &[[i64; 2]]),
    ) -> Result<Ranges, InputError> {
        let size = |v: i64| {
            usize::try_from(v).map_err(|_| InputError::Ranges(format!("negative entry {v}")))
        };
        let pattern =
            |(r, s, q): (&[[i64; 2]], &[i64], &[[i64; 2]])| -> Result<Pattern, InputError> {
                let pairs = |v: &[[i64; 2]]| -> Result<Vec<[usize; 2]>, InputError> {
                    v.iter().map(|[a, b]| Ok([size(*a)?, size(*b)?])).collect()
                };
                Ok(Pattern {
                    blocks: pairs(r)?,
                    slices: s.iter().map(|&v| size(v)).collect::<Result<_, _>>()?,
                    reduced: pairs(q)?,
                })
            };
        Ok(Ranges { over_j: pattern(over_j)?, over_i: pattern(over_i)? })
    }
    /// From contiguous clusters of rows (given by their ends) and the mask of pairs of clusters
    /// that meet, row-major.
    pub fn from_clusters(
        ends_i: &[usize],
        ends_j: &[usize],
        mask: &[bool],
    ) -> Result<Ranges, InputError> {
        if mask.len() != ends_i.len() * ends_j.len() {
            return Err(InputError::Ranges(format!(
                "the mask has {} entries, expected {} x {}",
                mask.len(),
                ends_i.len(),
                ends_j.len()
            )));
        }
        let blocks = |ends: &[usize]| -> Vec<[usize; 2]> {
            ends.iter()
                .scan(0, |a, &b| {
                    let s = *a;
                    *a = b;
                    Some([s, b])
                })
                .collect()
        };
        let (bi, bj) = (blocks(ends_i), blocks(ends_j));
        let (ni, nj) = (bi.len(), bj.len());
        let build = |kept: &[[usize; 2]], red: &[[usize; 2]], at: &dyn Fn(usize, usize) -> bool| {
            let mut p = Pattern { blocks: kept.to_vec(), ..Pattern::default() };
            for k in 0..kept.len() {
                p.reduced.extend((0..red.len()).filter(|&l| at(k, l)).map(|l| red[l]));
                p.slices.push(p.reduced.len());
            }
            p
        };
        Ok(Ranges {
            over_j: build(&bi, &bj, &|k, l| mask[k * nj + l]),
            over_i: build(&bj, &bi, &|k, l| mask[l * nj + k] && k < nj && l < ni),
        })
    }
    /// The pairs of the pattern for `axis`, with the other pattern derived from it. Derivatives of
    /// a reduction over `axis` need exactly these pairs, whatever the other pattern says.
    pub fn pairs_of(&self, axis: Axis) -> Ranges {
        match axis {
            Axis::J => Ranges::from_pattern(self.over_j.clone()),
            Axis::I => Ranges { over_j: transpose(&self.over_i), over_i: self.over_i.clone() },
        }
    }
    /// The pattern that a reduction over `axis` uses.
    pub fn pattern(&self, axis: Axis) -> &Pattern {
        match axis {
            Axis::J => &self.over_j,
            Axis::I => &self.over_i,
        }
    }
    /// Checks both patterns against the numbers of rows.
    pub fn check(&self, rows_i: usize, rows_j: usize) -> Result<(), InputError> {
        self.over_j.check(rows_i, rows_j, ["ranges_i", "slices_i", "redranges_j"])?;
        self.over_i.check(rows_j, rows_i, ["ranges_j", "slices_j", "redranges_i"])
    }
}

/// The same pairs seen from the reduced side: the reduced rows are cut at every boundary of a
/// range, so that each piece meets whole blocks.
fn transpose(p: &Pattern) -> Pattern {
    let mut cuts: Vec<usize> = p.reduced.iter().flatten().copied().collect();
    cuts.sort_unstable();
    cuts.dedup();
    let pieces: Vec<[usize; 2]> = cuts.windows(2).map(|w| [w[0], w[1]]).collect();
    let mut meets: Vec<Vec<[usize; 2]>> = vec![vec![]; pieces.len()];
    for (k, block) in p.blocks.iter().enumerate() {
        if block[0] == block[1] {
            continue;
        }
        for r in p.of_block(k) {
            let first = cuts.partition_point(|&c| c < r[0]);
            for (piece, m) in pieces.iter().zip(&mut meets).skip(first) {
                if piece[0] >= r[1] {
                    break;
                }
                m.push(*block);
            }
        }
    }
    let mut out = Pattern::default();
    for (piece, m) in pieces.into_iter().zip(meets) {
        if !m.is_empty() {
            out.blocks.push(piece);
            out.reduced.extend(m);
            out.slices.push(out.reduced.len());
        }
    }
    out
}
