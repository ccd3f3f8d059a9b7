//! Functions of arrays as problems of argmin.

use argmin::core::{CostFunction, Gradient, Hessian};
use argmin_math::ArgminDot;
use keops_core::data::{ArgView, Buffer, HostView};
use keops_core::error::{Error, InputError};
use keops_core::genred::{AsArg, Genred, Place, Reference};
use keops_core::memory;
use ndarray::{ArrayD, ArrayRef, ArrayViewD, Dimension, IxDyn, aview0};
use std::sync::{Arc, Mutex, PoisonError};

/// Name of gradients in errors where there is no memory for them.
const GRADIENT: &str = "the gradient";

/// What a function of an objective gets for an argument.
///
/// ```
/// use keops_linalg::Value;
/// let (x, y): (Value, Value) = ("x".into(), (&*ndarray::array![1.0, 2.0]).into());
/// assert!(matches!((x, y), (Value::Free(_), Value::Fixed(_))));
/// ```
#[derive(Clone, Debug)]
pub enum Value {
    /// A free variable, by its name.
    Free(String),
    /// An array that stays as it is.
    Fixed(ArrayD<f64>),
}
impl From<&str> for Value {
    fn from(name: &str) -> Value {
        Value::Free(name.into())
    }
}
impl<D: Dimension> From<&ArrayRef<f64, D>> for Value {
    fn from(array: &ArrayRef<f64, D>) -> Value {
        Value::Fixed(array.to_owned().into_dyn())
    }
}

#[derive(Clone, Debug)]
struct Variable {
    name: String,
    shape: Vec<usize>,
    start: usize,
    len: usize,
}

/// `weight · Σ f(…)`, its gradient and the product with its Hessian.
#[derive(Clone, Debug)]
struct Term<P> {
    weight: f64,
    value: Genred<P>,
    gradient: Genred<P>,
    hessian: Genred<P>,
    args: Vec<Value>,
    /// Positions of the variables of arguments that are free, in order.
    free: Vec<usize>,
}

/// A weighted sum of functions of arrays, some of which are free: a problem of argmin, with the
/// gradient and with products with the Hessian.
///
/// Each function is a reduction or a composition of several ([`Genred`]) with one result, whose
/// entries are added up. A free variable may stand for several arguments, on both sides of a
/// kernel too. argmin sees all free variables as one vector ([`Objective::pack`],
/// [`Objective::unpack`]).
///
/// ```
/// use argmin::core::Executor;
/// use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::Objective;
/// use ndarray::{Array2, array};
///
/// // The energy distance Σ|x-y| - Σ|x-x'| / 2 (- Σ|y-y'| / 2): x flows to y.
/// let y = Array2::from_shape_fn((20, 1), |(k, _)| (k as f64 / 3.0).sin() + 2.0);
/// let x = Array2::from_shape_fn((20, 1), |(k, _)| k as f64 / 20.0);
/// let f: Genred = Genred::new("Sqrt(SqDist(x, y) + 1e-4)", ["x = Vi(1)", "y = Vj(1)"], &SUM, Axis::J)?;
/// let flow = Objective::new().free("x", &x)?;
/// let flow = flow.term(1.0, &f, ["x".into(), (&*y).into()])?.term(-0.5, &f, ["x".into(), "x".into()])?;
/// let solver = LBFGS::new(MoreThuenteLineSearch::new(), 7);
/// let start = flow.pack(&[&x])?;
/// let run = Executor::new(flow.clone(), solver).configure(|s| s.param(start).max_iters(60)).run()?;
/// let best = run.state.best_param.unwrap();
/// let moved = &flow.unpack(&best)[0];
/// assert!((moved.mean().unwrap() - y.mean().unwrap()).abs() < 0.01);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Objective<P = Reference> {
    variables: Vec<Variable>,
    terms: Arc<Vec<Term<P>>>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl<P: Place> Default for Objective<P> {
    fn default() -> Objective<P> {
        Objective { variables: vec![], terms: Arc::default(), failure: Arc::default() }
    }
}

fn option<T>(m: String) -> Result<T, Error> {
    Err(InputError::Option(m).into())
}

impl<P: Place> Objective<P> {
    /// Zero, of no variables.
    pub fn new() -> Objective<P> {
        Objective::default()
    }
    /// Adds a free variable of the shape of an array.
    ///
    /// # Errors
    /// [`InputError`] if there is one of that name.
    pub fn free<A: AsArg + ?Sized>(mut self, name: &str, like: &A) -> Result<Objective<P>, Error> {
        if self.variables.iter().any(|v| v.name == name) {
            return option(format!("two free variables are named `{name}`"));
        }
        let shape = like.as_arg().shape().to_vec();
        let (start, len) = (self.len(), shape.iter().product());
        self.variables.push(Variable { name: name.into(), shape, start, len });
        Ok(self)
    }
    /// Adds `weight` times the sum of the entries of a function; arguments come in its order. All rows
    /// count: a composition over j alone has one equal row for each row of an argument over i
    /// ([`Genred::compose`]).
    ///
    /// # Errors
    /// [`InputError`] if the function has several results, or the arguments do not fit;
    /// [`keops_core::error::GradError`] if it has no derivative in the free ones.
    pub fn term(
        mut self,
        weight: f64,
        function: &Genred<P>,
        args: impl IntoIterator<Item = Value>,
    ) -> Result<Objective<P>, Error> {
        let args: Vec<Value> = args.into_iter().collect();
        let names: Vec<&str> = function.arguments().collect();
        if names.len() != args.len() {
            let (expected, got) = (names.len(), args.len());
            return Err(InputError::Count { expected, names: names.join(", "), got }.into());
        }
        if function.computation().outputs().len() != 1 {
            return option("an objective is made of functions with one result".into());
        }
        let (mut free, mut wrt) = (vec![], vec![]);
        for (name, value) in names.iter().zip(&args) {
            let Value::Free(variable) = value else { continue };
            let Some(k) = self.variables.iter().position(|v| v.name == *variable) else {
                let known: Vec<&str> = self.variables.iter().map(|v| v.name.as_str()).collect();
                let known = known.join(", ");
                return option(format!("no free variable is named `{variable}`, only {known}"));
            };
            free.push(k);
            wrt.push(*name);
        }
        let gradient = function.vjp_of(&wrt)?;
        let hessian = gradient.jvp_of(&wrt)?;
        let term = Term { weight, value: function.clone(), gradient, hessian, args, free };
        let zeros = vec![0.0; self.len()];
        function.computation().sizes(&self.arguments(&term, &zeros)?)?;
        Arc::make_mut(&mut self.terms).push(term);
        Ok(self)
    }
    /// Entries of all free variables together.
    pub fn len(&self) -> usize {
        self.variables.last().map_or(0, |v| v.start + v.len)
    }
    /// Has it no free variable?
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }
    /// Arrays as one vector, in the order in which the variables were declared.
    ///
    /// # Errors
    /// [`InputError`] if shapes differ from those declared.
    pub fn pack<D: Dimension>(&self, arrays: &[&ArrayRef<f64, D>]) -> Result<Vec<f64>, Error> {
        let shapes = self.variables.iter().map(|v| &v.shape[..]);
        if !shapes.eq(arrays.iter().map(|a| a.shape())) {
            let got: Vec<_> = arrays.iter().map(|a| a.shape()).collect();
            let own: Vec<_> = self.variables.iter().map(|v| (&v.name, &v.shape)).collect();
            return option(format!("free variables: expected {own:?}, got {got:?}"));
        }
        let all = arrays.iter().flat_map(|a| a.iter().copied());
        let mut packed = memory::room(self.len(), "free variables").map_err(Error::from)?;
        packed.extend(all);
        Ok(packed)
    }
    /// A vector as arrays. Panics if it is shorter than [`Objective::len`].
    pub fn unpack<'v>(&self, vector: &'v [f64]) -> Vec<ArrayViewD<'v, f64>> {
        self.variables.iter().map(|v| view(v, vector)).collect()
    }
    /// What made a product with the Hessian NaN, if anything did: argmin takes no error there.
    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn arguments<'v>(&self, term: &'v Term<P>, x: &'v [f64]) -> Result<Vec<ArgView<'v>>, Error> {
        if x.len() != self.len() {
            let (expected, got) = (format!("shape [{}]", self.len()), vec![x.len()]);
            let name = "the vector of free variables".into();
            return Err(InputError::Shape { name, expected, got }.into());
        }
        let mut free = term.free.iter();
        let of = |value: &'v Value| match value {
            Value::Fixed(a) => HostView::F64(a.view()).into(),
            Value::Free(_) => match free.next() {
                Some(&k) => HostView::F64(view(&self.variables[k], x)).into(),
                None => unreachable!("free arguments are counted"),
            },
        };
        Ok(term.args.iter().map(of).collect())
    }
    /// The value.
    ///
    /// # Errors
    /// From the device; [`InputError`] for a vector of another length.
    pub fn value(&self, x: &[f64]) -> Result<f64, Error> {
        let mut total = 0.0;
        for term in &*self.terms {
            let made = term.value.run(&self.arguments(term, x)?)?;
            total += term.weight * made.iter().map(|b| b.to_f64().sum()).sum::<f64>();
        }
        Ok(total)
    }
    /// The gradient, as a vector.
    ///
    /// # Errors
    /// As [`Objective::value`].
    pub fn gradient_at(&self, x: &[f64]) -> Result<Vec<f64>, Error> {
        self.derivative(x, None)
    }
    /// The product of the Hessian at `x` with `v`.
    ///
    /// # Errors
    /// As [`Objective::value`].
    pub fn hessian_product(&self, x: &[f64], v: &[f64]) -> Result<Vec<f64>, Error> {
        self.derivative(x, Some(v))
    }
    fn derivative(&self, x: &[f64], along: Option<&[f64]>) -> Result<Vec<f64>, Error> {
        let mut total = memory::filled(self.len(), 0.0, GRADIENT)?;
        for term in self.terms.iter().filter(|t| !t.free.is_empty()) {
            let mut args = self.arguments(term, x)?;
            let shape = term.value.computation().shape_of(0, &args)?;
            let weight = aview0(&term.weight);
            let Some(weights) = weight.broadcast(IxDyn(&shape)) else {
                return Err(InputError::TooLarge {
                    what: GRADIENT.into(),
                    detail: format!("{shape:?}"),
                }
                .into());
            };
            args.push(HostView::F64(weights).into());
            if let Some(v) = along {
                if v.len() != self.len() {
                    let (expected, got) = (format!("shape [{}]", self.len()), vec![v.len()]);
                    let name = "a direction".into();
                    return Err(InputError::Shape { name, expected, got }.into());
                }
                args.extend(
                    term.free
                        .iter()
                        .map(|&k| ArgView::from(HostView::F64(view(&self.variables[k], v)))),
                );
            }
            let of = if along.is_some() { &term.hessian } else { &term.gradient };
            for (&k, made) in term.free.iter().zip(of.run(&args)?) {
                let Variable { start, len, .. } = self.variables[k];
                let Buffer::F64(made) = made else { unreachable!("of f64 arguments") };
                total[start..start + len].iter_mut().zip(&made).for_each(|(t, g)| *t += g);
            }
        }
        Ok(total)
    }
}

fn view<'v>(variable: &Variable, x: &'v [f64]) -> ArrayViewD<'v, f64> {
    let own = &x[variable.start..variable.start + variable.len];
    match ArrayViewD::from_shape(IxDyn(&variable.shape), own) {
        Ok(view) => view,
        Err(_) => unreachable!("as many entries as the shape has"),
    }
}

impl<P: Place> CostFunction for Objective<P> {
    type Param = Vec<f64>;
    type Output = f64;
    fn cost(&self, x: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        Ok(self.value(x)?)
    }
}
impl<P: Place> Gradient for Objective<P> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;
    fn gradient(&self, x: &Vec<f64>) -> Result<Vec<f64>, argmin::core::Error> {
        Ok(self.gradient_at(x)?)
    }
}
impl<P: Place> Hessian for Objective<P> {
    type Param = Vec<f64>;
    type Hessian = HessianAt<P>;
    fn hessian(&self, x: &Vec<f64>) -> Result<HessianAt<P>, argmin::core::Error> {
        Ok(HessianAt { of: self.clone(), at: Arc::new(x.clone()) })
    }
}

/// The Hessian of an [`Objective`] at a point: products only, nothing is stored.
///
/// ```
/// use argmin::core::Hessian;
/// use argmin_math::ArgminDot;
/// use keops_core::{genred::Genred, reduce::SUM, spec::Axis};
/// use keops_linalg::Objective;
/// let f: Genred = Genred::new("Square(x) * x", ["x = Vi(1)"], &SUM, Axis::I)?;
/// let cubes = Objective::new().free("x", &ndarray::array![[1.0], [2.0]])?.term(1.0, &f, ["x".into()])?;
/// let at = cubes.hessian(&vec![1.0, 2.0])?;
/// assert_eq!(at.dot(&vec![1.0, 1.0]), [6.0, 12.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HessianAt<P = Reference> {
    of: Objective<P>,
    at: Arc<Vec<f64>>,
}
/// A product that fails is NaN, and [`Objective::failure`] says why.
impl<P: Place> ArgminDot<Vec<f64>, Vec<f64>> for HessianAt<P> {
    fn dot(&self, v: &Vec<f64>) -> Vec<f64> {
        self.of.hessian_product(&self.at, v).unwrap_or_else(|e| {
            *self.of.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            vec![f64::NAN; v.len()]
        })
    }
}
