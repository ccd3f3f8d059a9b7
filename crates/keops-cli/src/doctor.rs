//! `keops doctor`: what this machine is, and what keops uses of it.

use crate::failure::Done;
use crate::inputs::Reduction;
use crate::memory;
use crate::session::{Chosen, Session};
use keops::cpu::{Cpu, Level};
use keops::cuda::Cuda;
use keops::genred::Place;
use keops::spec::Backend;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  keops doctor
  keops doctor --json | python3 -m json.tool";

/// Say what of this machine is used, and why something is not
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Command {}

/// What the processor calls itself, where the system says it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".into(), |(_, name)| name.trim().into())
}

/// Instructions that a level needs and this processor lacks.
fn missing(level: Level) -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! lacking {
            ($($feature:tt)*) => {{
                let mut all = vec![];
                $(if !std::arch::is_x86_feature_detected!($feature) {
                    all.push($feature);
                })*
                all
            }};
        }
        match level {
            Level::Avx512 => {
                lacking!("avx512f" "avx512dq" "avx512bw" "avx512vl" "avx2" "fma" "f16c")
            }
            Level::Avx2 => lacking!("avx2" "fma" "f16c"),
            Level::Portable => vec![],
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        vec!["x86-64"]
    }
}

/// Does a formula become machine code, and compute what it should?
fn tried() -> (bool, String) {
    let all = || -> Done<String> {
        let reduction = Reduction {
            reduction: "Sum".into(),
            k: None,
            weight: None,
            axis: crate::inputs::AxisName::J,
        };
        let f = reduction.of("x * y", &["x = Vi(1)".into(), "y = Vj(1)".into()])?;
        let (x, y) = (ndarray::arr1(&[2f32, 3.0]), ndarray::arr1(&[5f32, 7.0]));
        let out = f.call((&x, &y))?;
        if out.iter().ne([24f32, 36.0].iter()) {
            return crate::failure::error(format!("2 (5 + 7), 3 (5 + 7) came out as {out}"));
        }
        let text = f.explain(keops::data::DType::F32)?;
        Ok(if text.contains("vcode") { "interpreted" } else { "machine code" }.into())
    };
    match all() {
        Ok(how) => (true, how),
        Err(e) => (false, e.message().unwrap_or_default().into()),
    }
}

pub fn run(_: &Command, session: &Session) -> Done {
    let cpu = session.level.map_or_else(|| Ok(Cpu::new()), Cpu::with_level)?;
    let device = Chosen.device(0);
    let available = Level::available();
    let all = [Level::Avx512, Level::Avx2, Level::Portable];
    let levels: Vec<(Level, Option<String>)> = (all.into_iter())
        .map(|level| {
            let why = (!available.contains(&level)).then(|| {
                let lacking = missing(level).join(", ");
                format!("the processor (or the system) has no {lacking}")
            });
            (level, why)
        })
        .collect();
    let threads = rayon::current_num_threads();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (works, code) = tried();
    let cuda = Cuda::new();
    let gpu = cuda.check();
    let gpu_text = match &gpu {
        Ok(()) => format!("{}, for problems of 2^28 pairs and more", cuda.target()),
        Err(e) => format!("none: {}", e.reason),
    };
    let memory_text = memory::limit().map_or_else(|| "unknown".into(), memory::size);
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let mut text = format!(
        "keops       {}\nsystem      {system}\nprocessor   {}\nmemory      {memory_text}\n\
         threads     {threads} of {cores} cores\nlevel       {}\n",
        env!("CARGO_PKG_VERSION"),
        processor(),
        cpu.level().name(),
    );
    for (level, why) in &levels {
        let state = match why {
            Some(why) => format!("no: {why}"),
            None if *level == cpu.level() => "used".into(),
            None if session.level.is_some() => "there, --level asked for another".into(),
            None => "there, a better one is used".into(),
        };
        text += &format!("  {:<9} {state}\n", level.name());
    }
    text += &format!(
        "code        {code}\ngpu         {gpu_text}\ndevice      {}\n",
        device.backend().target()
    );
    let levels: Vec<_> =
        levels.iter().map(|(l, why)| json!({"name": l.name(), "why_not": why})).collect();
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "system": system,
        "processor": processor(),
        "memory": memory::limit(),
        "threads": threads,
        "cores": cores,
        "level": cpu.level().name(),
        "levels": levels,
        "code": code,
        "gpu": {"found": gpu.is_ok(), "text": gpu_text},
        "device": device.backend().target(),
    });
    session.report(&report, &text)?;
    match works {
        true => Ok(()),
        false => crate::failure::error(format!("a small sum failed: {code}")),
    }
}
