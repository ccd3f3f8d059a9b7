//! What does not fit into memory is refused before the work, with its size.

use crate::failure::{Done, Failure, error};

/// Bytes that this process may have, as far as the system tells.
pub fn limit() -> Option<u64> {
    let number = |path: &str, key: &str| -> Option<u64> {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|l| l.starts_with(key))?;
        line[key.len()..].split_whitespace().next()?.parse().ok()
    };
    let machine = number("/proc/meminfo", "MemTotal:").map(|kilobytes| kilobytes * 1024);
    // The limit of a container, where it has one ("max" is no number).
    let group = number("/sys/fs/cgroup/memory.max", "")
        .or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes", ""));
    machine.into_iter().chain(group).min()
}

/// Would this fit?
pub fn check(what: &str, bytes: u64) -> Done {
    match limit() {
        Some(limit) if bytes > limit => error(format!(
            "{what} takes {}, but there are {} of memory: work on parts",
            size(bytes),
            size(limit)
        )),
        _ => Ok(()),
    }
}

/// Bytes in words.
pub fn size(bytes: u64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

/// An empty vector with room.
pub fn room<T>(count: usize) -> Done<Vec<T>> {
    let mut all = vec![];
    all.try_reserve_exact(count).map_err(|_| {
        let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
        Failure::Error(format!("there is no memory for {}", size(bytes)))
    })?;
    Ok(all)
}
