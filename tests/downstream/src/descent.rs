//! An optimiser that keops has not: gradient descent with backtracking (Nocedal & Wright 2006, algorithm 3.1).
use keops::lddmm::registration::{Ended, Minimisation, Optimiser, Stop};

/// Steps along the gradient, halved until the cost falls by a part of what the slope promises; the first one
/// that is tried is twice as long as the last one that was taken.
#[derive(Debug)]
pub struct Descent;

impl Optimiser for Descent {
    fn minimise(&mut self, run: &mut Minimisation<'_, '_>) -> Result<Stop, Ended> {
        loop {
            let (cost, slope) = (run.value().cost, run.value().gradient_norm());
            let down = run.value().gradient.mapv(|g| -g / slope);
            let mut length = if run.iterations() == 0 { run.step() } else { 2.0 * run.step() };
            loop {
                let point = run.point() + &(length * &down);
                let value = run.evaluate(&point)?; // infinite where the flow breaks down
                let enough = cost - 1e-4 * length * slope;
                if enough >= cost {
                    return Ok(Stop::Precision);
                }
                if value.cost <= enough {
                    run.accept(point, value)?;
                    break;
                }
                length *= 0.5;
            }
        }
    }
}
