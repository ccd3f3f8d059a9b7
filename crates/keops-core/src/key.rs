//! Keys of formulas and reductions: bytes that are equal exactly for equal computations, made in
//! less time than any text.

use crate::graph::{Graph, NodeId, map_args};
use crate::spec::ReduceSpec;
use std::hash::{Hash, Hasher};

/// Keeps what is hashed instead of mixing it. Derived `Hash` writes the variant of an enum, the
/// length of a list and the end of a text, so that different values leave different bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Key(Vec<u8>);

impl Default for Key {
    fn default() -> Key {
        // Two dozen bytes a node of a formula, most of them the name of its operation.
        Key(Vec::with_capacity(256))
    }
}
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// Begins the key of a computation of a graph.
pub(crate) const GRAPH: u8 = 0;
/// Begins the key of a computation of the operations that a graph would be made of.
pub(crate) const TERMS: u8 = 1;

/// The bytes that a value leaves.
pub(crate) fn of(value: &impl Hash) -> Key {
    let mut key = Key::default();
    value.hash(&mut key);
    key
}

impl Key {
    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.0.capacity()
    }
    /// A small number is one byte, any other the number of its bytes with the highest bit set, and
    /// those.
    fn number(&mut self, v: u64) {
        if v < 0x80 {
            return self.0.push(v as u8);
        }
        let len = 8 - v.leading_zeros() as usize / 8;
        let mut bytes = [0x80 | len as u8; 9];
        bytes[1..].copy_from_slice(&v.to_le_bytes());
        self.0.extend_from_slice(&bytes[..=len]);
    }
}

impl Hasher for Key {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn write_u8(&mut self, v: u8) {
        self.0.push(v);
    }
    fn write_u32(&mut self, v: u32) {
        self.number(v.into());
    }
    fn write_u64(&mut self, v: u64) {
        self.number(v);
    }
    fn write_usize(&mut self, v: usize) {
        self.number(v as u64);
    }
    fn write_isize(&mut self, v: isize) {
        self.number(v as u64);
    }
    fn finish(&self) -> u64 {
        unreachable!("a key is kept, not finished")
    }
}

/// Hashes the nodes that `roots` need, renumbered from 0, and the roots: graphs that compute the
/// same are alike, whatever else they hold.
pub fn formulas(graph: &Graph, roots: &[NodeId], state: &mut impl Hasher) {
    let live = graph.live(roots);
    let mut place = vec![0u32; live.last().map_or(0, |id| id.0 as usize + 1)];
    live.len().hash(state);
    for (k, id) in (0..).zip(&live) {
        place[id.0 as usize] = k;
        let mut node = graph.node(*id).clone();
        map_args(&mut node, |a| NodeId(place[a.0 as usize]));
        node.hash(state);
    }
    roots.len().hash(state);
    roots.iter().for_each(|r| place[r.0 as usize].hash(state));
}

/// Names of variables do not belong to it.
impl Hash for ReduceSpec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.weight {
            None => formulas(&self.graph, &[self.formula], state),
            Some(weight) => formulas(&self.graph, &[self.formula, weight], state),
        }
        let ReduceSpec { reduction, k, axis, vars, dtype, options, .. } = self;
        (reduction, k, axis, vars, dtype, options).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Category, Ex, Var};
    use crate::ops::EXP;

    struct Formula<'a>(&'a Graph, NodeId);
    impl Hash for Formula<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            formulas(self.0, &[self.1], state);
        }
    }
    /// The key of one of some formulas of `x_i` and `y_j` in one graph.
    fn key(make: impl for<'b> Fn([Ex<'b>; 2]) -> Vec<Ex<'b>>, which: usize) -> Key {
        let b = Builder::default();
        let var = |index, category| b.var(Var { index, dim: 2, category });
        let id = make([var(0, Category::I), var(1, Category::J)])[which].id;
        of(&Formula(&b.into_graph(), id))
    }

    #[test]
    fn keys_tell_formulas_apart() {
        fn all<'b>([x, y]: [Ex<'b>; 2]) -> Vec<Ex<'b>> {
            let three = x.lit(3.0);
            vec![
                x,
                y,
                x - y,
                y - x,
                x + y,
                x * three,
                x * x.lit(128.0),
                x * x.lit(-3.0),
                x.un(&EXP),
                x.un(&EXP).un(&EXP),
                x.dot(y),
                x.dot(x),
                (x - y).un(&EXP),
                x.un(&EXP) - y,
            ]
        }
        let count = 14;
        for a in 0..count {
            for b in 0..a {
                assert_ne!(key(all, a), key(all, b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn keys_do_not_see_the_rest_of_the_graph() {
        let alone = key(|[x, y]| vec![(x - y).dot(x)], 0);
        let among = key(|[x, y]| vec![(y * x).un(&EXP), y.lit(2.0) * x, (x - y).dot(x)], 2);
        assert_eq!(alone, among);
    }
}
