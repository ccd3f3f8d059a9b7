//! Arrays that stay on a device between calls.
//!
//! What is used by several calls is sent to a device once, and kept there in the form in which the
//! device reads it. A result that is only an argument of the next call stays there.

use crate::data::{ArgView, Element};
use crate::error::{FormulaError, RunError};
use crate::genred::{AsArg, Genred, IntoArgs, Place};
use crate::lazy::{BoundReduction, IntoArray, Kept, OpenArgs};
use crate::spec::{Device, Resident};
use ndarray::{ArrayD, IxDyn};
use std::marker::PhantomData;

/// An array that a device holds: an argument of calls on this device, as arrays of the host are.
/// [`Device::upload`] makes one, or [`Genred::call_resident`]. It is immutable, and clones share
/// it; the memory is freed with the last one.
///
/// On CPUs it is an array in memory, beside which columns are kept as the compiled code reads them.
///
/// ```
/// use keops_core::genred::Genred;
/// use keops_core::{interp::Interpreter, reduce::SUM, spec::{Axis, Device}};
/// use ndarray::array;
///
/// let device = Device::new(Interpreter::new());
/// let aliases = ["x = Vi(1)", "y = Vj(1)", "b = Vj(1)"];
/// let sum: Genred = Genred::new("x * y * b", aliases, &SUM, Axis::J)?;
/// let sum = sum.at(device.clone());
/// let points = device.upload(array![[1.0], [2.0]])?; // sent once
/// let b = sum.call_resident((&points, &points, &array![[1.0], [1.0]]))?; // [3, 6] stays there
/// let out = sum.call((&points, &points, &b))?;
/// assert_eq!(out, array![[15.0], [30.0]].into_dyn());
/// assert_eq!(b.to_host()?, array![[3.0], [6.0]].into_dyn());
///
/// // Another device does not know it.
/// let other = sum.at(Device::new(Interpreter::new()));
/// let e = other.call((&points, &points, &b)).unwrap_err();
/// assert!(e.to_string().starts_with("argument `x` is held by another device (interpreter)"));
/// # Ok::<(), keops_core::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeviceArray<T> {
    array: Resident,
    element: PhantomData<T>,
}

impl<T: Element> DeviceArray<T> {
    fn new(array: Resident) -> DeviceArray<T> {
        debug_assert_eq!(array.dtype(), T::DTYPE);
        DeviceArray { array, element: PhantomData }
    }
    /// Shape.
    pub fn shape(&self) -> &[usize] {
        self.array.shape()
    }
    /// Bytes that it takes now, with all that the device keeps of it in other forms.
    pub fn bytes(&self) -> usize {
        self.array.bytes()
    }
    /// A copy in memory of the host.
    ///
    /// # Errors
    /// [`RunError`] if there is no memory for it or if the device fails.
    pub fn to_host(&self) -> Result<ArrayD<T>, RunError> {
        Ok(T::take(self.array.to_host()?)?)
    }
    /// The array, whatever its element type.
    pub fn resident(&self) -> &Resident {
        &self.array
    }
}

impl Device {
    /// Sends an array to this device, to be an argument of many calls. An owned row-major array is
    /// moved, without a copy where the device works in memory of the host; others are copied. An
    /// array that a device holds is moved from there to this one.
    ///
    /// ```
    /// use keops_core::genred::Reference;
    /// use keops_core::{interp::Interpreter, lazy::LazyTensor, spec::{Axis, Device}};
    /// use ndarray::array;
    /// let device = Device::new(Interpreter::new());
    /// let x = device.upload(array![1.0, 2.0])?;
    /// let lazy = LazyTensor::<f64, Reference>::vi(&x).at(device); // not copied
    /// assert_eq!(lazy.square().sum(Axis::J)?, array![[1.0], [4.0]].into_dyn());
    /// # Ok::<(), keops_core::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`FormulaError::Input`] or [`FormulaError::Run`] if there is no memory for it, or if the device
    /// fails.
    pub fn upload<A: IntoArray>(&self, array: A) -> Result<DeviceArray<A::Elem>, FormulaError> {
        let kept = array.into_array()?.into_owned().map_err(RunError::from)?;
        let values = match kept {
            Ok(values) => A::Elem::buffer(values),
            Err(held) if held.check("array", self).is_ok() => return Ok(DeviceArray::new(held)),
            Err(held) => held.to_host()?,
        };
        Ok(DeviceArray::new(self.hold(values)?))
    }
}

impl<T: Element> AsArg for DeviceArray<T> {
    type Elem = T;
    fn as_arg(&self) -> ArgView<'_> {
        (&self.array).into()
    }
}
impl<T: Element> IntoArray for DeviceArray<T> {
    type Elem = T;
    type Dim = IxDyn;
    fn into_array(self) -> Result<Kept<T>, crate::error::InputError> {
        Ok(Kept::resident(self.array))
    }
}
impl<T: Element> IntoArray for &DeviceArray<T> {
    type Elem = T;
    type Dim = IxDyn;
    fn into_array(self) -> Result<Kept<T>, crate::error::InputError> {
        self.clone().into_array()
    }
}

impl<P: Place> Genred<P> {
    /// The result of [`Genred::call`], held by the device that computed it.
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn call_resident<'a, A: IntoArgs<'a>>(
        &self,
        args: A,
    ) -> Result<DeviceArray<A::Elem>, FormulaError> {
        let (result, device) = self.run_resident(&args.into_args())?;
        if result.dtype() == A::Elem::DTYPE {
            return Ok(DeviceArray::new(result));
        }
        // f16 and bf16 are computed in f32 and rounded at the end.
        let rounded = A::Elem::take(result.to_host()?).map_err(RunError::from)?;
        Ok(DeviceArray::new(device.hold(A::Elem::buffer(rounded))?))
    }
}

impl<T: Element, P: Place> BoundReduction<T, P> {
    /// The result of [`BoundReduction::call`], held by the device that computed it.
    ///
    /// # Errors
    /// As [`Genred::call`].
    pub fn call_resident<'a>(
        &'a self,
        open: impl OpenArgs<'a, T>,
    ) -> Result<DeviceArray<T>, FormulaError> {
        self.function().call_resident(self.arguments(open)?)
    }
}
