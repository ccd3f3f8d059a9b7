//! Every kernel compiles, without a GPU.

use super::nvrtc;
use super::witness::{self, Witness};
use crate::codegen::{Tuning, generate};
use keops_core::data::DType;
use keops_core::spec::ReduceSpec;
use std::collections::HashSet;
use std::sync::Mutex;

/// Compiles in parallel; reports spills and checks that small kernels have none.
fn compile(cases: Vec<(Witness, DType, &str)>) {
    let Some(nvrtc) = nvrtc() else { return };
    let mut known = HashSet::new();
    let mut queue = vec![];
    for (w, dtype, architecture) in cases {
        let spec = ReduceSpec { dtype, ..w.spec.clone() };
        let text = generate(&spec, Tuning::default()).unwrap().text();
        if known.insert((text.clone(), architecture)) {
            queue.push((w.name, w.small, dtype, architecture, text));
        }
    }
    let total = queue.len();
    let (queue, failures) = (Mutex::new(queue), Mutex::new(vec![]));
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(8) {
            s.spawn(|| {
                loop {
                    let Some((name, small, dtype, architecture, text)) = queue.lock().unwrap().pop() else { break };
                    let binary = match nvrtc.compile(&text, architecture) {
                        Ok(b) => b,
                        Err(e) => {
                            failures.lock().unwrap().push(format!("{name} {dtype:?} {architecture}: {e}"));
                            continue;
                        }
                    };
                    assert!(binary.cubin.starts_with(b"\x7fELF"));
                    assert!(binary.usage.iter().any(|u| u.kernel == "keops_reduce" && u.registers > 0), "{}", binary.log);
                    for u in binary.usage {
                        let line = format!(
                            "{name} {dtype:?} {architecture} {}: {} registers, {} bytes of stack, spills {:?}, {} bytes shared",
                            u.kernel, u.registers, u.stack, u.spills, u.shared
                        );
                        if u.kernel == "keops_reduce" {
                            println!("{line}");
                        }
                        if small && u.spills != (0, 0) {
                            failures.lock().unwrap().push(line);
                        }
                    }
                }
            });
        }
    });
    println!("{total} units compiled by {nvrtc:?}");
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn all_compile_for_hopper() {
    compile(
        witness::all()
            .into_iter()
            .map(|w| (w.spec.dtype, w))
            .map(|(d, w)| (w, d, "sm_90"))
            .collect(),
    );
}

#[test]
fn others_compile_for_ampere_and_blackwell_and_in_double() {
    let wanted = [
        "gaussian 3",
        "gaussian 3 gradient",
        "gaussian 3 hessian",
        "gaussian 50 gradient",
        "gaussian 4096 hessian",
        "log-sum-exp, scale 1",
        "log-sum-exp, second derivative",
        "ArgKMin 10",
        "ArgKMin 100",
        "Kahan None",
        "gather",
        "gather, gradient of the table",
        "folds 30",
    ];
    let others = ["Block Some(F64)", "F16 storage", "BF16 storage", "f16 accumulation"];
    let mut cases = vec![];
    let mut found = 0;
    for w in witness::all() {
        let plain = wanted.contains(&w.name.as_str());
        if plain || others.contains(&w.name.as_str()) {
            found += 1;
            cases.extend(["sm_80", "sm_100"].map(|a| (w.clone(), w.spec.dtype, a)));
        }
        if plain {
            cases.push((w, DType::F64, "sm_90"));
        }
    }
    assert_eq!(found, wanted.len() + others.len());
    compile(cases);
}
