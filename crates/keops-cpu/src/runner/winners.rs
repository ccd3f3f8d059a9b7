//! The best keys of rows, when several are wanted.

use super::worker::Worker;
use crate::pack::Lane;
use keops_core::error::RunError;
use keops_core::memory::refused;
use keops_core::reduce::Order;
use std::mem::take;

/// Most winners that are kept in order all the time: inserting one takes time proportional to
/// their number. Of more, twice as many are collected before the best half is selected, so that a
/// candidate takes constant time, and they are sorted once.
const SORTED: usize = 48;

/// The best keys of every list so far.
pub(super) struct Winners<T: Lane> {
    order: Order,
    k: usize,
    worst: T,
    lists: usize,
    keys: Vec<T>,
    columns: Vec<u32>,
    count: Vec<usize>,
    /// Instead of those three, where there are many winners.
    collected: Vec<Collected<T::Ranked>>,
}

/// Candidates of one list.
#[derive(Default)]
pub(super) struct Collected<R> {
    all: Vec<R>,
    /// Most of them at a time; 0 for a list that nobody asks for.
    room: usize,
    /// The `k`-th best of those that were selected from.
    bound: Option<R>,
}

impl<R: Copy + Ord> Collected<R> {
    fn offer(&mut self, ranked: R, k: usize) {
        if self.bound.is_some_and(|b| ranked >= b) || self.room == 0 {
            return;
        }
        if self.all.len() == self.room {
            self.select(k);
            self.bound = self.all.last().copied();
            if self.bound.is_some_and(|b| ranked >= b) {
                return;
            }
        }
        self.all.push(ranked);
    }
    /// Keeps the best `k`, the worst of them last.
    fn select(&mut self, k: usize) {
        if self.all.len() > k {
            self.all.select_nth_unstable(k - 1);
            self.all.truncate(k);
        }
    }
    /// Makes room for offers of `columns` more columns.
    fn grow(&mut self, k: usize, columns: usize) -> Result<(), RunError> {
        self.room = k.saturating_mul(2).min(self.all.len().saturating_add(columns));
        let more = self.room - self.all.len().min(self.room);
        let out = |_| refused::<R>(self.room, "the candidates of a row").into();
        self.all.try_reserve_exact(more).map_err(out)
    }
}

/// Memory of winners, between tiles.
pub(super) type Kept<T> = (Vec<T>, Vec<u32>, Vec<usize>, Vec<Collected<<T as Lane>::Ranked>>);

/// Bytes of it.
pub(super) fn bytes<T: Lane>((keys, columns, counts, collected): &Kept<T>) -> usize {
    size_of::<T>() * keys.capacity()
        + size_of::<u32>() * columns.capacity()
        + size_of::<usize>() * counts.capacity()
        + collected
            .iter()
            .map(|c| size_of_val(c) + size_of::<T::Ranked>() * c.all.capacity())
            .sum::<usize>()
}

impl<T: Lane> Winners<T> {
    /// Takes the worker's memory. Lists of many winners are to be [reserved](Winners::reserve).
    pub fn new(w: &mut Worker<T>, order: Order, k: usize, lists: usize) -> Result<Self, RunError> {
        let worst = T::round(if order == Order::Min { f64::INFINITY } else { f64::NEG_INFINITY });
        let (mut keys, mut columns, mut count, mut collected) = take(&mut w.winners);
        const WHAT: &str = "the lists of winners";
        if k > SORTED {
            for list in &mut collected {
                (list.room, list.bound) = (0, None);
                list.all.clear();
            }
            collected
                .try_reserve(lists.saturating_sub(collected.len()))
                .map_err(|_| refused::<Collected<T::Ranked>>(lists, WHAT))?;
            collected.resize_with(lists, || Collected { all: vec![], room: 0, bound: None });
        } else {
            let total = lists * k;
            keys.clear();
            columns.clear();
            count.clear();
            keys.try_reserve_exact(total).map_err(|_| refused::<T>(total, WHAT))?;
            columns.try_reserve_exact(total).map_err(|_| refused::<u32>(total, WHAT))?;
            count.try_reserve_exact(lists).map_err(|_| refused::<usize>(lists, WHAT))?;
            keys.resize(total, worst);
            columns.resize(total, 0);
            count.resize(lists, 0);
        }
        Ok(Winners { order, k, worst, lists, keys, columns, count, collected })
    }
    /// Prepares lists for the offers of this many columns; other lists may take none.
    pub fn reserve(
        &mut self,
        mut lists: impl Iterator<Item = usize>,
        columns: usize,
    ) -> Result<(), RunError> {
        match self.k > SORTED {
            true => lists.try_for_each(|list| self.collected[list].grow(self.k, columns)),
            false => Ok(()),
        }
    }
    pub fn give_back(self, w: &mut Worker<T>) {
        w.winners = (self.keys, self.columns, self.count, self.collected);
    }
    /// Their number.
    pub fn lists(&self) -> usize {
        self.lists
    }
    /// Winners of a list.
    pub fn k(&self) -> usize {
        self.k
    }
    pub fn order(&self) -> Order {
        self.order
    }
    /// The key that every other one beats.
    pub fn worst(&self) -> T {
        self.worst
    }
    /// Offers the winners of other columns.
    pub fn merge(&mut self, other: &Self) -> Result<(), RunError> {
        let min = self.order == Order::Min;
        for list in 0..other.lists() {
            if self.k > SORTED {
                let theirs = &other.collected[list].all;
                self.collected[list].grow(self.k, theirs.len())?;
                theirs.iter().for_each(|r| self.collected[list].offer(*r, self.k));
                continue;
            }
            for at in (list * other.k..).take(other.count[list]) {
                self.insert(list, other.keys[at], other.columns[at], min);
            }
        }
        Ok(())
    }
    /// Puts the winners in order, after the last offer.
    pub fn finish(&mut self) {
        for list in &mut self.collected {
            list.select(self.k);
            list.all.sort_unstable();
        }
    }
    /// Results of rows whose lists are `[slot][row]`, rows of a tile of `width`: the worst key and
    /// -1 where there are too few.
    pub fn write(
        &self,
        rows: usize,
        width: usize,
        mut values: Option<&mut [T]>,
        mut indices: Option<&mut [i64]>,
    ) {
        let (k, n, min) = (self.k, self.lists / width, self.order == Order::Min);
        for row in 0..rows {
            for s in 0..n {
                let list = s * width + row;
                for q in 0..k {
                    let place = row * k * n + q * n + s;
                    let (key, column) = if k > SORTED {
                        let ranked = self.collected[list].all.get(q);
                        ranked.map_or((self.worst, -1), |&r| {
                            let (key, column) = T::unranked(r, min);
                            (key, i64::from(column))
                        })
                    } else if q < self.count[list] {
                        (self.keys[list * k + q], i64::from(self.columns[list * k + q]))
                    } else {
                        (self.worst, -1)
                    };
                    if let Some(v) = &mut values {
                        v[place] = key;
                    }
                    if let Some(i) = &mut indices {
                        i[place] = column;
                    }
                }
            }
        }
    }
    /// A key and its column that bound the k-th best: without many winners, that one itself.
    /// `None` while too few are known.
    pub fn last(&self, list: usize) -> Option<(T, u32)> {
        if self.k > SORTED {
            let bound = self.collected[list].bound;
            return bound.map(|r| T::unranked(r, self.order == Order::Min));
        }
        let at = list * self.k + self.k - 1;
        (self.count[list] >= self.k).then(|| (self.keys[at], self.columns[at]))
    }
    /// Takes a key if it may belong to the best; equal keys are in the order of their columns, NaN
    /// is none.
    pub fn offer(&mut self, list: usize, key: T, column: u32) {
        let min = self.order == Order::Min;
        if key.partial_cmp(&key).is_none() {
            return;
        }
        if self.k > SORTED {
            self.collected[list].offer(key.ranked(min, column), self.k);
        } else {
            self.insert(list, key, column, min);
        }
    }
    fn insert(&mut self, list: usize, key: T, column: u32, min: bool) {
        let (k, have) = (self.k, self.count[list]);
        let keys = &mut self.keys[list * k..(list + 1) * k];
        let columns = &mut self.columns[list * k..(list + 1) * k];
        let before = |at: usize| {
            let (a, b) = (key, keys[at]);
            (if min { a < b } else { a > b }) || a == b && column < columns[at]
        };
        if have == k && !before(k - 1) {
            return;
        }
        let last = have.min(k - 1);
        let mut at = last;
        while at > 0 && before(at - 1) {
            at -= 1;
        }
        keys.copy_within(at..last, at + 1);
        columns.copy_within(at..last, at + 1);
        keys[at] = key;
        columns[at] = column;
        self.count[list] = (have + 1).min(k);
    }
}
