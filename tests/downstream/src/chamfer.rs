//! An attachment that keops has not: the chamfer distance of vertices.
use keops::lddmm::LddmmError;
use keops::lddmm::attachment::{Attachment, Prepared, Setting};
use keops::ndarray::{Array2, ArrayView2};
use keops::prelude::*;

/// Σ_i min_j |x_i − y_j|² + Σ_j min_i |x_i − y_j|².
#[derive(Debug)]
pub struct Chamfer;
impl std::fmt::Display for Chamfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("chamfer")
    }
}
impl Attachment for Chamfer {
    fn prepare(&self, at: &Setting<'_>) -> Result<Box<dyn Prepared>, LddmmError> {
        let d = at.source.dim();
        let aliases = [format!("x = Vi({d})"), format!("y = Vj({d})")];
        let nearest = Genred::new("SqDist(x, y)", aliases, ArgMin, Over::J)?;
        let nearest = nearest.at(at.device.clone());
        Ok(Box::new(Nearest { nearest, y: at.target.vertices().to_owned() }))
    }
}
struct Nearest {
    nearest: keops::genred::Genred<Device>,
    y: Array2<f64>,
}
impl Prepared for Nearest {
    fn value_and_gradient(&self, x: ArrayView2<'_, f64>) -> Result<(f64, Array2<f64>), LddmmError> {
        let (mut value, mut gradient) = (0.0, Array2::zeros(x.dim()));
        let from_x = self.nearest.call_indices((&x, &self.y))?;
        let from_y = self.nearest.call_indices((&self.y, &x))?;
        let pairs = from_x.iter().enumerate().map(|(i, &j)| (i, j as usize));
        for (i, j) in pairs.chain(from_y.iter().enumerate().map(|(j, &i)| (i as usize, j))) {
            let gap = &x.row(i) - &self.y.row(j);
            value += gap.dot(&gap);
            gradient.row_mut(i).scaled_add(2.0, &gap);
        }
        Ok((value, gradient))
    }
}
