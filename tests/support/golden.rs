//! Reader of golden cases: `tests/golden` and folders of the same format.
//!
//! A folder holds `manifest.json` and npz files; scripts/golden/README.md
//! describes both. Broken files are faults of the repository, so that the
//! reader panics with the name of the case and of the array.

#![allow(dead_code)] // every test file uses its own part of this module

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, ArrayViewD, Dimension};
use ndarray_npy::NpzReader;
use serde_json::Value;

/// One step of differentiation of a reduction as a function of its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Gradient of `<output, with>` in the argument `wrt`; it has the shape of `wrt`.
    Vjp { wrt: String, with: String },
    /// Derivative of the output along `with`, an array of the shape of `wrt`.
    Jvp { wrt: String, with: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F16,
    F32,
    F64,
}

/// Expected output: values, indices, or both.
#[derive(Clone, Debug)]
pub struct Expected {
    pub values: Option<ArrayD<f64>>,
    pub indices: Option<ArrayD<i64>>,
}

/// A golden case with its arrays.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// A kernel system: the argument named `unknown` holds the right-hand side.
    pub solve: Option<Solve>,
    pub formula: String,
    pub aliases: Vec<String>,
    pub reduction: String,
    /// 1 reduces over j, 0 over i.
    pub axis: usize,
    /// K of KMin, ArgKMin and KMin_ArgKMin.
    pub opt_arg: Option<usize>,
    pub formula2: Option<String>,
    pub dtype: Dtype,
    pub sum_scheme: String,
    pub dtype_acc: String,
    pub steps: Vec<Step>,
    pub rtol: f64,
    pub tags: Vec<String>,
    pub note: String,
    /// Arguments in the order of the aliases, exact in `dtype`.
    pub args: Vec<ArrayD<f64>>,
    /// Cotangents and directions of `steps`, by name.
    pub extra: BTreeMap<String, ArrayD<f64>>,
    /// KeOps 6-tuple: ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i.
    pub ranges: Option<Vec<ArrayD<i64>>>,
    pub expected: Expected,
}

/// Parameters of a kernel system `(alpha I + K) a = c`.
#[derive(Clone, Debug)]
pub struct Solve {
    pub unknown: String,
    pub alpha: f64,
    pub eps: f64,
}

impl Case {
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }

    /// Name of the variable that an alias such as `x = Vi(3)` declares.
    pub fn variable(&self, position: usize) -> &str {
        let alias = &self.aliases[position];
        alias.split_once('=').map_or(alias.as_str(), |(name, _)| name).trim()
    }

    /// Compares values: |got - want| <= rtol max(|want|, 1e-3); NaN and
    /// infinities must be equal.
    pub fn check_values(&self, got: ArrayViewD<f64>) -> Result<(), String> {
        let want = self.expected.values.as_ref().ok_or("the case has no values")?;
        if got.shape() != want.shape() {
            return Err(format!("shape: expected {:?}, got {:?}", want.shape(), got.shape()));
        }
        let worst = want
            .indexed_iter()
            .zip(&got)
            .filter_map(|((at, &w), &g)| {
                let equal = g == w || (g.is_nan() && w.is_nan());
                let error = (g - w).abs() / w.abs().max(1e-3);
                (!equal && (error.is_nan() || error > self.rtol)).then_some((at, w, g, error))
            })
            .max_by(|a, b| a.3.total_cmp(&b.3));
        match worst {
            None => Ok(()),
            Some((at, w, g, error)) => Err(format!(
                "at {:?}: expected {w:e}, got {g:e}, error {error:.1e} > {:.1e}",
                at.slice(),
                self.rtol
            )),
        }
    }

    /// Compares indices exactly.
    pub fn check_indices(&self, got: ArrayViewD<i64>) -> Result<(), String> {
        let want = self.expected.indices.as_ref().ok_or("the case has no indices")?;
        if got.shape() != want.shape() {
            return Err(format!("shape: expected {:?}, got {:?}", want.shape(), got.shape()));
        }
        match want.indexed_iter().zip(&got).find(|((_, w), g)| w != g) {
            None => Ok(()),
            Some(((at, w), g)) => Err(format!("at {:?}: expected {w}, got {g}", at.slice())),
        }
    }
}

/// An npz file that is read once; arrays are decoded when asked for.
pub struct Arrays {
    npz: NpzReader<File>,
    path: PathBuf,
}

impl Arrays {
    pub fn open(path: &Path) -> Arrays {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let npz = NpzReader::new(file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Arrays { npz, path: path.to_owned() }
    }

    /// Floating-point array, single precision widened; None if it holds integers.
    fn floats(&mut self, name: &str) -> Option<ArrayD<f64>> {
        let double = self.npz.by_name::<ndarray::OwnedRepr<f64>, _>(name).ok();
        double.or_else(|| {
            let single: ArrayD<f32> = self.npz.by_name(name).ok()?;
            Some(single.mapv(f64::from))
        })
    }

    pub fn real(&mut self, name: &str) -> ArrayD<f64> {
        self.floats(name)
            .unwrap_or_else(|| panic!("{}: no floating-point array {name:?}", self.path.display()))
    }

    pub fn integer(&mut self, name: &str) -> ArrayD<i64> {
        let path = &self.path;
        self.npz.by_name(name).unwrap_or_else(|e| panic!("{}, {name:?}: {e}", path.display()))
    }
}

/// All cases of a folder, in the order of its manifest.
pub fn read(folder: &Path) -> Vec<Case> {
    let path = folder.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut files = HashMap::new();
    let cases = manifest["cases"].as_array().expect("manifest.json: a list of cases");
    cases
        .iter()
        .map(|entry| {
            let file = string(entry, "file");
            // One container is kept open; files of a single case are not.
            if entry["arrays"].is_object() {
                let arrays =
                    files.entry(file.clone()).or_insert_with(|| Arrays::open(&folder.join(&file)));
                case(entry, arrays)
            } else {
                case(entry, &mut Arrays::open(&folder.join(&file)))
            }
        })
        .collect()
}

fn string(entry: &Value, field: &str) -> String {
    entry[field].as_str().unwrap_or_default().to_owned()
}

fn string_or_auto(entry: &Value, field: &str) -> String {
    entry[field].as_str().unwrap_or("auto").to_owned()
}

fn strings(entry: &Value, field: &str) -> Vec<String> {
    let list = entry[field].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect()
}

fn count(entry: &Value, field: &str) -> Option<usize> {
    entry[field].as_u64().map(|k| usize::try_from(k).expect("a count that fits usize"))
}

fn case(entry: &Value, arrays: &mut Arrays) -> Case {
    let name = string(entry, "name");
    let stored = |role: &str| entry["arrays"][role].as_str().unwrap_or(role).to_owned();
    let steps: Vec<Step> = entry["derive"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|step| {
            let (wrt, with) = (string(step, "wrt"), string(step, "with"));
            match step["kind"].as_str() {
                Some("vjp") => Step::Vjp { wrt, with },
                Some("jvp") => Step::Jvp { wrt, with },
                other => panic!("{name}: unknown step {other:?}"),
            }
        })
        .collect();
    let extra = steps
        .iter()
        .map(|step| {
            let (Step::Vjp { with, .. } | Step::Jvp { with, .. }) = step;
            (with.clone(), arrays.real(&stored(with)))
        })
        .collect();
    let nargs = count(entry, "nargs").unwrap_or_else(|| panic!("{name}: no field nargs"));
    let args = (0..nargs).map(|k| arrays.real(&stored(&format!("arg{k}")))).collect();
    let ranges = entry["ranges"]
        .is_string()
        .then(|| (0..6).map(|k| arrays.integer(&stored(&format!("ranges{k}")))).collect());
    let out = stored(entry["expected"].as_str().unwrap_or("out"));
    let reduction = string(entry, "reduction_op");
    // Where there are values and indices, `ref` of KeOps cases holds both in one array: take `out`.
    let paired = ["Min_ArgMin", "Max_ArgMax", "KMin_ArgKMin"].contains(&reduction.as_str());
    let expected = if paired && steps.is_empty() {
        let values = Some(arrays.real(&stored("out")));
        Expected { values, indices: Some(arrays.integer(&stored("out_idx"))) }
    } else if let Some(values) = arrays.floats(&out) {
        Expected { values: Some(values), indices: None }
    } else {
        Expected { values: None, indices: Some(arrays.integer(&out)) }
    };
    let solve = (entry["kind"] == "solve").then(|| Solve {
        unknown: string(entry, "varinvalias"),
        alpha: entry["alpha"].as_f64().unwrap_or(0.0),
        eps: entry["eps"].as_f64().unwrap_or(1e-6),
    });
    let dtype = match entry["dtype"].as_str() {
        Some("float16") => Dtype::F16,
        Some("float32") => Dtype::F32,
        Some("float64") => Dtype::F64,
        other => panic!("{name}: unknown dtype {other:?}"),
    };
    Case {
        solve,
        formula: string(entry, "formula"),
        aliases: strings(entry, "aliases"),
        reduction,
        axis: count(entry, "axis").unwrap_or_else(|| panic!("{name}: no field axis")),
        opt_arg: count(entry, "opt_arg"),
        formula2: entry["formula2"].as_str().map(str::to_owned),
        dtype,
        sum_scheme: string_or_auto(entry, "sum_scheme"),
        dtype_acc: string_or_auto(entry, "dtype_acc"),
        steps,
        rtol: entry["rtol"].as_f64().unwrap_or_else(|| panic!("{name}: no field rtol")),
        tags: strings(entry, "tags"),
        note: string(entry, "note"),
        args,
        extra,
        ranges,
        expected,
        name,
    }
}
