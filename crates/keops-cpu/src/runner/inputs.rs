//! Packs arguments: parameters and columns of one batch element, rows of one tile.

use super::tiles::Span;
use super::worker::{Inputs, Worker};
use super::{CpuExecutable, Routines};
use crate::frame::CallMemory;
use crate::kernels;
use crate::pack::{Aligned, Lane, pack_kept, pack_panels, pack_param, pack_reduced};
use crate::resident::{self, Key};
use keops_core::error::RunError;
use keops_core::program::{Field, Source};
use keops_core::spec::CheckedArgs;

/// How columns lie in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Record after record.
    Records,
    /// In panels of as many columns as a vector has lanes, component after component.
    Panels,
}

/// What columns of one batch element are packed from.
pub(super) struct Packer<'p, T> {
    pub(super) args: &'p CheckedArgs<'p>,
    pub(super) index: &'p [usize],
    pub(super) param: &'p [T],
}

impl CpuExecutable {
    /// Do all batch elements have the same parameters?
    pub(super) fn same_parameters(&self, args: &CheckedArgs<'_>) -> bool {
        self.program.param.fields.iter().all(|f| match f.source {
            Source::Argument(k) => {
                let shape = args.args()[k].shape();
                shape[..shape.len() - 1].iter().all(|&extent| extent == 1)
            }
            _ => true,
        })
    }
    /// Packs parameters (unless they are packed) and columns of one batch element.
    pub(super) fn inputs<T: Lane>(
        &self,
        args: &CheckedArgs<'_>,
        (batch, packed): (usize, bool),
        columns: usize,
        to: &mut Inputs<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let index = args.batch_index(batch);
        if !packed {
            self.parameters(args, &index, to.own_param(), w)?;
        }
        (to.index, to.held) = (index, [None, None]);
        let from = Packer { args, index: &to.index, param: &to.param };
        to.held[0] = self.whole(&from, columns, Packing::Records, &mut to.reduced, w)?;
        if self.full.find.is_some() && (self.full.extremes.is_none() || columns >= kernels::COARSE)
        {
            to.held[1] = self.whole(&from, columns, Packing::Panels, &mut to.panels, w)?;
            return Ok(());
        }
        to.panels.reset(0, "no panels")
    }
    /// Packs all columns; the fields of arrays that are held may have been packed by an earlier call.
    /// Returns the argument that keeps the columns afterwards.
    pub(super) fn whole<T: Lane>(
        &self,
        from: &Packer<'_, T>,
        columns: usize,
        packing: Packing,
        packed: &mut Aligned<T>,
        w: &mut Worker<T>,
    ) -> Result<Option<Box<(usize, Key)>>, RunError> {
        let (record, all) = (&self.program.reduced, (0, columns));
        let args = from.args.args();
        if columns == 0 || args.iter().all(|a| a.resident().is_none()) {
            self.columns(from, all, packing, packed, w)?;
            return Ok(None);
        }
        let lanes = match packing {
            Packing::Records => 1,
            Packing::Panels => self.full.plan.lanes,
        };
        let derive = Some(self.number).filter(|_| self.program.param.len == 0);
        let made = Key::new::<T>(record, args, (lanes, columns), from.index, derive);
        let Some((owner, key)) = made else {
            self.columns(from, all, packing, packed, w)?;
            return Ok(None);
        };
        match resident::of(&args[owner]).and_then(|array| array.take(&key)) {
            None => self.columns(from, all, packing, packed, w)?,
            Some(kept) => {
                *packed = kept;
                let fields = record.fields.iter().enumerate();
                let others = fields.filter(|(k, _)| !key.holds(*k)).map(|(_, f)| *f);
                self.fields(&others.collect::<Vec<_>>(), from, all, packing, packed);
                if !key.has_derived() {
                    self.derived(from, all, packing, packed, w)?;
                }
            }
        }
        Ok(Some(Box::new((owner, key))))
    }
    /// Leaves packed columns with the arrays that keep them.
    pub(super) fn leave<T: Lane>(&self, args: &CheckedArgs<'_>, inputs: &mut Inputs<T>) {
        let Inputs { held, reduced, panels, .. } = inputs;
        for (held, packed) in held.iter_mut().zip([reduced, panels]) {
            if let Some((owner, key)) = held.take().map(|h| *h)
                && let Some(array) = resident::of(&args.args()[owner])
            {
                array.put(key, std::mem::take(packed));
            }
        }
    }
    /// Packs parameters, derived values included.
    pub(super) fn parameters<T: Lane>(
        &self,
        args: &CheckedArgs<'_>,
        index: &[usize],
        param: &mut Aligned<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        param.reset(self.param_room, "parameters")?;
        pack_param(&p.param.fields, args.args(), index, param);
        let Some((plan, r)) = &self.once else { return Ok(()) };
        let raw: usize = p.param.fields.iter().map(|f| f.dim).sum();
        w.out.resize((p.param.len - raw) * plan.lanes, "parameters")?;
        // Tables are read from the parameters, where derived ones come after a pass.
        for _ in 0..self.passes {
            r.run(CallMemory {
                state: &mut w.out.data,
                scratch: &mut w.scratch,
                ..CallMemory::new(param, &mut w.workspace)
            });
            let mut changed = false;
            for k in raw..p.param.len {
                let made = w.out.data[(k - raw) * plan.lanes];
                changed |= made.bits() != param[k].bits();
                param[k] = made;
            }
            if !changed {
                break;
            }
        }
        Ok(())
    }
    /// Packs columns `start .. end`, derived values included.
    pub(super) fn columns<T: Lane>(
        &self,
        from: &Packer<'_, T>,
        (start, end): Span,
        packing: Packing,
        packed: &mut Aligned<T>,
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let (record, count) = (&self.program.reduced, self.packed_count(start, end, packing));
        let total = record.len.checked_mul(count).unwrap_or(usize::MAX / 16);
        packed.reset(total, "the packed columns")?;
        if record.len == 0 || start == end {
            return Ok(());
        }
        self.fields(&record.fields, from, (start, end), packing, packed);
        self.derived(from, (start, end), packing, packed, w)
    }
    /// Columns that are packed for `start .. end`: panels come in whole turns of the code that reads
    /// them.
    pub(super) fn packed_count(&self, start: usize, end: usize, packing: Packing) -> usize {
        match packing {
            Packing::Records => end - start,
            Packing::Panels => {
                (end - start).next_multiple_of(kernels::find_turn(self.full.plan.lanes))
            }
        }
    }
    /// Packs some fields of columns `start .. end`.
    pub(super) fn fields<T: Lane>(
        &self,
        fields: &[Field],
        from: &Packer<'_, T>,
        columns: Span,
        packing: Packing,
        packed: &mut [T],
    ) {
        let (stride, lanes) = (self.program.reduced.len, self.full.plan.lanes);
        let args = from.args.args();
        match packing {
            Packing::Records => pack_reduced(fields, args, from.index, columns, stride, packed),
            Packing::Panels => {
                pack_panels(fields, args, from.index, columns, (stride, lanes), packed)
            }
        }
    }
    /// Computes the derived values of columns `start .. end`.
    pub(super) fn derived<T: Lane>(
        &self,
        from: &Packer<'_, T>,
        (start, end): Span,
        packing: Packing,
        packed: &mut [T],
        w: &mut Worker<T>,
    ) -> Result<(), RunError> {
        let p = &self.program;
        let Some((_, r)) = &self.per_reduced else { return Ok(()) };
        let (stride, lanes) = (p.reduced.len, self.full.plan.lanes);
        let raw: usize = p.reduced.fields.iter().map(|f| f.dim).sum();
        let input = p.reduced.input_len.max(1) * lanes;
        w.lanes.resize(input, "a tile")?;
        w.derived.resize(stride * lanes, "a tile")?;
        let tile = &mut w.lanes.data[..input];
        let derived = &mut w.derived.data[..stride * lanes];
        for j in (0..self.packed_count(start, end, packing)).step_by(lanes) {
            let rows = ((start + j).min(end - 1), end.min(start + j + lanes));
            pack_kept(&p.reduced.input_fields, from.args.args(), from.index, rows, lanes, tile);
            r.run(CallMemory {
                kept: tile,
                state: derived,
                scratch: &mut w.scratch,
                ..CallMemory::new(from.param, &mut w.workspace)
            });
            match packing {
                Packing::Panels => {
                    let panel = &mut packed[j * stride..(j + lanes) * stride];
                    panel[raw * lanes..].copy_from_slice(&derived[raw * lanes..]);
                }
                Packing::Records => {
                    let records = packed[j * stride..].chunks_exact_mut(stride).take(lanes);
                    for (k, record) in records.enumerate() {
                        for c in raw..stride {
                            record[c] = derived[c * lanes + k];
                        }
                    }
                }
            }
        }
        Ok(())
    }
    /// Packs the rows of a tile, derived values included.
    pub(super) fn pack_rows<T: Lane>(
        &self,
        routines: &Routines,
        args: &CheckedArgs<'_>,
        index: &[usize],
        param: &[T],
        rows: (usize, usize),
        w: &mut Worker<T>,
    ) {
        let record = &self.program.kept;
        let width = routines.plan.width();
        let tile = &mut w.kept[..record.len * width];
        pack_kept(&record.fields, args.args(), index, rows, width, tile);
        let Some(r) = &routines.per_kept else { return };
        let input = &mut w.input[..record.input_len.max(1) * width];
        pack_kept(&record.input_fields, args.args(), index, rows, width, input);
        // Derived values go into the tile, whose record has room for them.
        r.run(CallMemory {
            kept: &w.input,
            state: &mut w.kept,
            scratch: &mut w.scratch,
            ..CallMemory::new(param, &mut w.workspace)
        });
    }
}
