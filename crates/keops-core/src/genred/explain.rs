//! What becomes of a formula, as text.

use super::{Genred, Place};
use crate::data::DType;
use crate::error::FormulaError;
use crate::outer::{OuterId, OuterNode};
use std::fmt::Write;

impl<P: Place> Genred<P> {
    /// All that a call on arguments of this type goes through, as text for people: the arguments, the
    /// computation (each reduction with the nodes of its formula, and what is done between them), and
    /// for each reduction the program, the plan and the code that the device makes of it, if it shows
    /// them. The text has no fixed form.
    ///
    /// ```
    /// use keops_core::{data::DType, genred::Genred, reduce::SUM, spec::Axis};
    /// let conv: Genred = Genred::new("Exp(-SqDist(x, y))", ["x = Vi(3)", "y = Vj(3)"], &SUM, Axis::J)?;
    /// let text = conv.explain(DType::F32)?;
    /// println!("{text}");
    /// assert!(text.contains("x: Vi(3)") && text.contains("Sum over J"));
    /// assert!(text.contains("runs on interpreter")); // which makes no code
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`FormulaError::Input`] and [`FormulaError::Compile`] if it cannot be compiled.
    pub fn explain(&self, dtype: DType) -> Result<String, FormulaError> {
        let computation = self.computation();
        let mut s = String::from("arguments\n");
        // Writing to a string does not fail.
        for i in computation.inputs() {
            let row: Vec<_> = i.row.iter().map(usize::to_string).collect();
            let _ = writeln!(s, "    {}: {}({})", i.name, i.category.keyword(), row.join(", "));
        }
        let _ = write!(s, "computation\n{}", indented(&computation.graph().to_string()));
        let device = self.place.device(0);
        let _ = writeln!(s, "runs on {} in {}", device.backend().name(), dtype.name());
        for k in 0..computation.graph().len() {
            let OuterNode::Reduce(r) = computation.graph().node(OuterId(k as u32)) else {
                continue;
            };
            let spec = computation.spec(r, dtype, dtype);
            spec.check()?;
            let made = device.compile(&spec)?;
            let _ = writeln!(s, "code of #{k}, {} over {:?}", r.reduction.name, r.axis);
            match made.source() {
                Some(code) => s.push_str(&indented(&code)),
                None => s.push_str("    none: it is interpreted\n"),
            }
        }
        Ok(s)
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("    {l}\n")).collect()
}
