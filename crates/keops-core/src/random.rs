//! Numbers that look random and are the same in every run: probes of solvers, cases of tests.

/// SplitMix64 (Steele, Lea & Flood 2014).
///
/// ```
/// use keops_core::random::Random;
/// let mut random = Random::new(0);
/// assert_eq!(random.bits(), 0xe220_a839_7b1d_cdaf); // as the reference implementation
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream; the same for the same seed.
    ///
    /// ```
    /// use keops_core::random::Random;
    /// assert_eq!(Random::new(7).bits(), Random::new(7).bits());
    /// assert_ne!(Random::new(7).bits(), Random::new(8).bits());
    /// ```
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }
    /// The next 64 bits.
    ///
    /// ```
    /// use keops_core::random::Random;
    /// let mut random = Random::new(1);
    /// let ones: u32 = (0..1000).map(|_| random.bits().count_ones()).sum();
    /// assert!((31_000..33_000).contains(&ones)); // 32 of 64 on average, ± 126
    /// ```
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Uniform in `[0, 1)`.
    ///
    /// ```
    /// use keops_core::random::Random;
    /// let mut random = Random::new(1);
    /// let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 1e4;
    /// assert!((mean - 0.5).abs() < 0.015); // five standard deviations
    /// ```
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Uniform in `[low, high)`.
    ///
    /// ```
    /// use keops_core::random::Random;
    /// let mut random = Random::new(1);
    /// assert!((0..100).all(|_| (-2.0..3.0).contains(&random.within(-2.0, 3.0))));
    /// ```
    pub fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
    /// Uniform in `0..n`; 0 if `n` is 0.
    ///
    /// ```
    /// use keops_core::random::Random;
    /// let mut random = Random::new(1);
    /// let seen: std::collections::BTreeSet<usize> = (0..100).map(|_| random.below(6)).collect();
    /// assert_eq!(Vec::from_iter(seen), [0, 1, 2, 3, 4, 5]);
    /// assert_eq!(random.below(0), 0);
    /// ```
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }
}
