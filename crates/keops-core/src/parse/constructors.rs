//! Reductions of formula strings.

use super::{parse_formula, parse_reduction};
use crate::error::{Error, InputError};
use crate::genred::{Genred, Place, Reduce};
use crate::reduce;
use crate::spec::Axis;

impl Reduce {
    /// The reduction of that name, in any of KeOps' spellings; `k` is the number of winners of
    /// those that take several (`opt_arg`).
    ///
    /// ```
    /// use keops_core::{genred::Reduce, reduce::K_MIN};
    /// assert_eq!(Reduce::named("Kmin", Some(10))?, (&K_MIN, 10).into());
    /// # Ok::<(), keops_core::error::InputError>(())
    /// ```
    ///
    /// # Errors
    /// [`InputError::Option`] if there is no such reduction, or if `k` is missing.
    pub fn named(name: &str, k: Option<usize>) -> Result<Reduce, InputError> {
        let Some(def) = reduce::by_name(name) else {
            let all: Vec<_> = reduce::all().map(|r| r.name()).collect();
            let m = format!("unknown reduction `{name}`; there are {}", all.join(", "));
            return Err(InputError::Option(m));
        };
        match k {
            None if def.takes_winners() => {
                Err(InputError::Option(format!("{name} needs the number of winners K")))
            }
            k => Ok(Reduce { def, k: k.unwrap_or(1) }),
        }
    }
}

impl<P: Place + Default> Genred<P> {
    /// A reduction of a formula given as text; `aliases` declare its variables in the order of
    /// arguments. See [`crate::parse`] for the syntax.
    ///
    /// ```
    /// use keops_core::genred::{Genred, Reference};
    /// use keops_core::{reduce::SUM, spec::Axis};
    /// use ndarray::array;
    /// let dots: Genred = Genred::new("(x | y)", ["x = Vi(2)", "y = Vj(2)"], &SUM, Axis::J)?;
    /// let (x, y) = (array![[1.0, 2.0]], array![[3.0, 4.0], [5.0, 6.0]]);
    /// assert_eq!(dots.call((&x, &y))?, array![[11.0 + 17.0]].into_dyn());
    /// let e = Genred::<Reference>::new("(x | z)", ["x = Vi(2)"], &SUM, Axis::J).unwrap_err();
    /// assert!(e.to_string().contains("z"), "{e}"); // with a caret under it
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parse`] with the place in the text, [`Error::Input`] if formula, reduction and
    /// number of winners do not fit.
    pub fn new(
        formula: &str,
        aliases: impl IntoIterator<Item = impl AsRef<str>>,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<Genred<P>, Error> {
        Genred::parsed(formula, None, aliases, reduction.into(), axis)
    }
    /// As [`Genred::new`] with a second formula (KeOps' `formula2`), for reductions that take a
    /// weight.
    ///
    /// ```
    /// use keops_core::genred::Genred;
    /// use keops_core::{reduce::SUM_SOFT_MAX_WEIGHT, spec::Axis};
    /// use ndarray::array;
    ///
    /// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(2)"];
    /// let attention: Genred = Genred::weighted("x * y", "b", aliases, &SUM_SOFT_MAX_WEIGHT, Axis::J)?;
    /// let (x, y, b) = (array![[0.0]], array![[1.0], [5.0]], array![[1.0, 2.0], [3.0, 6.0]]);
    /// assert_eq!(attention.call((&x, &y, &b))?, array![[2.0, 4.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Genred::new`].
    pub fn weighted(
        formula: &str,
        weight: &str,
        aliases: impl IntoIterator<Item = impl AsRef<str>>,
        reduction: impl Into<Reduce>,
        axis: Axis,
    ) -> Result<Genred<P>, Error> {
        Genred::parsed(formula, Some(weight), aliases, reduction.into(), axis)
    }
    fn parsed(
        formula: &str,
        weight: Option<&str>,
        aliases: impl IntoIterator<Item = impl AsRef<str>>,
        reduction: Reduce,
        axis: Axis,
    ) -> Result<Genred<P>, Error> {
        let aliases: Vec<_> = aliases.into_iter().collect();
        let aliases: Vec<&str> = aliases.iter().map(|a| a.as_ref()).collect();
        let formula = parse_formula(formula, weight, &aliases)?;
        Ok(Genred::from_formula(formula, reduction, axis)?)
    }
    /// From a whole reduction as text, in KeOps' internal form: see [`parse_reduction`].
    ///
    /// ```
    /// use keops_core::genred::Genred;
    /// use ndarray::array;
    /// let nearest: Genred =
    ///     Genred::from_text("ArgKMin_Reduction(SqDist(x, y), 2, 0)", ["x = Vi(1)", "y = Vj(1)"])?;
    /// let found = nearest.call_indices((&array![[0.0]], &array![[5.0], [1.0], [-2.0]]))?;
    /// assert_eq!(found, array![[1, 2]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`parse_reduction`].
    pub fn from_text(
        text: &str,
        aliases: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Genred<P>, Error> {
        let aliases: Vec<_> = aliases.into_iter().collect();
        let aliases: Vec<&str> = aliases.iter().map(|a| a.as_ref()).collect();
        Ok(parse_reduction(text, &aliases)?.into())
    }
}
