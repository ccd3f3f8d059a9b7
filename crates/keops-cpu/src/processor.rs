//! What is known of processors beyond their instructions.

/// Does this processor work on 512-bit registers in halves? Zen 4 does (family 25, with AVX-512: AMD, Software
/// Optimization Guide for the AMD Zen4 Microarchitecture, 2.11): an operation on 512 bits takes its units
/// as long as two on 256, so that loads for each of them are what longer vectors save.
pub fn has_half_width_units() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::sync::OnceLock;
        static HALF: OnceLock<bool> = OnceLock::new();
        *HALF.get_or_init(|| {
            let vendor = cpuid(0);
            let amd = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
            let version = cpuid(1).eax;
            let family = (version >> 8 & 15) + (version >> 20 & 255);
            amd == b"AuthenticAMD" && family == 25
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// What the processor says of itself.
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)] // It became safe after the oldest Rust that this crate is built with.
fn cpuid(leaf: u32) -> std::arch::x86_64::CpuidResult {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::__cpuid(leaf) }
}
