//! What can be wrong with a cable, as plain values, and the mixtures that have a name.
//!
//! Nothing happens here: [`crate::wire::Wire`] does what these values say.

use protocol::time::{Duration, Instant};

/// Runs of bytes that something happens to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Runs {
    /// The probability, at each byte, that a run starts there.
    pub per_byte: f64,
    /// A run has 1 to this many bytes.
    pub length_max: u32,
}

/// A time in which nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first moment without a cable.
    pub from: Instant,
    /// The first moment with a cable again.
    pub until: Instant,
}

/// A plug that falls out and is pushed in again at random times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loose {
    /// How long the contact holds, on average.
    pub holds_mean: Duration,
    /// How long it is open, on average.
    pub open_mean: Duration,
}

/// Everything that goes wrong on one direction of a line. All probabilities are 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// The probability that a data bit arrives inverted.
    pub bit_error: f64,
    /// Bytes that never arrive: overruns, damaged start or stop bits.
    pub drop: Runs,
    /// The last bytes come once more: a driver's retry.
    pub duplicate: Runs,
    /// Random bytes from nowhere.
    pub noise: Runs,
    /// The probability, at each byte, of a NUL (a BREAK), an XON or an XOFF after it.
    pub control: f64,
    /// The probability, at each byte, that somebody writes a line of text on the same device.
    pub text: f64,
    /// Random bytes that were in the buffers before the first real one.
    pub stale: usize,
    /// Until then every byte arrives as another one, as with the wrong baud rate.
    pub garbled_until: Option<Instant>,
    /// When the cable is out.
    pub cuts: Vec<Cut>,
    /// A plug that does not hold.
    pub loose: Option<Loose>,
    /// From then on nothing goes wrong any more.
    pub healed_at: Option<Instant>,
}

impl Faults {
    /// A perfect cable.
    pub fn none() -> Self {
        Self::default()
    }

    /// Inverts data bits with this probability.
    pub fn bit_errors(mut self, probability: f64) -> Self {
        self.bit_error = probability;
        self
    }

    /// Loses runs of bytes.
    pub fn drops(mut self, per_byte: f64, length_max: u32) -> Self {
        self.drop = Runs { per_byte, length_max };
        self
    }

    /// Repeats runs of bytes.
    pub fn duplicates(mut self, per_byte: f64, length_max: u32) -> Self {
        self.duplicate = Runs { per_byte, length_max };
        self
    }

    /// Adds runs of random bytes.
    pub fn noise(mut self, per_byte: f64, length_max: u32) -> Self {
        self.noise = Runs { per_byte, length_max };
        self
    }

    /// Adds NUL, XON and XOFF bytes.
    pub fn controls(mut self, per_byte: f64) -> Self {
        self.control = per_byte;
        self
    }

    /// Adds kernel messages and login prompts.
    pub fn texts(mut self, per_byte: f64) -> Self {
        self.text = per_byte;
        self
    }

    /// Leaves bytes of an earlier session in the buffers.
    pub fn stale_bytes(mut self, count: usize) -> Self {
        self.stale = count;
        self
    }

    /// Garbles every byte until then.
    pub fn garbled_until(mut self, until: Instant) -> Self {
        self.garbled_until = Some(until);
        self
    }

    /// Takes the cable out at `from` for `length`.
    pub fn cut(mut self, from: Instant, length: Duration) -> Self {
        self.cuts.push(Cut { from, until: from + length });
        self
    }

    /// Loosens the plug.
    pub fn loose(mut self, holds_mean: Duration, open_mean: Duration) -> Self {
        self.loose = Some(Loose { holds_mean, open_mean });
        self
    }

    /// Ends all faults at `at`.
    pub fn healed_at(mut self, at: Instant) -> Self {
        self.healed_at = Some(at);
        self
    }

    /// The mixture with this name.
    pub fn preset(name: &str) -> Option<Self> {
        PRESETS.iter().find(|preset| preset.name == name).map(Preset::faults)
    }
}

/// A mixture with a name.
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is like, in a few words.
    pub about: &'static str,
    /// The line's speed in bytes per second, where that is the fault.
    pub bytes_per_second: Option<u32>,
    build: fn() -> Faults,
}

impl Preset {
    const fn new(name: &'static str, about: &'static str, build: fn() -> Faults) -> Self {
        Self { name, about, bytes_per_second: None, build }
    }

    /// What goes wrong.
    pub fn faults(&self) -> Faults {
        (self.build)()
    }
}

/// Every mixture that has a name: what can be wrong with a line itself. What happens to programs
/// and their machines has names in [`crate::scenarios`].
pub const PRESETS: &[Preset] = &[
    Preset::new("clean", "nothing goes wrong", Faults::none),
    Preset::new("ber-1e-6", "one bit in 1,000,000 inverted", || Faults::none().bit_errors(1e-6)),
    Preset::new("ber-1e-5", "one bit in 100,000 inverted", || Faults::none().bit_errors(1e-5)),
    Preset::new("ber-1e-4", "one bit in 10,000 inverted", || Faults::none().bit_errors(1e-4)),
    Preset::new("ber-1e-3", "one bit in 1,000 inverted", || Faults::none().bit_errors(1e-3)),
    Preset::new("ber-1e-2", "one bit in 100 inverted", || Faults::none().bit_errors(1e-2)),
    Preset::new("drops", "single lost bytes, one in 2,000", || Faults::none().drops(5e-4, 1)),
    Preset::new("drop-16", "lost runs of up to 16 bytes", || Faults::none().drops(2e-4, 16)),
    Preset::new("drop-256", "lost runs of up to 256 bytes", || Faults::none().drops(1e-4, 256)),
    Preset::new("drop-runs", "lost runs of up to 4,096 bytes", || {
        Faults::none().drops(5e-5, 4_096)
    }),
    Preset::new("duplicate-1", "single repeated bytes, one in 2,000", || {
        Faults::none().duplicates(5e-4, 1)
    }),
    Preset::new("duplicate-256", "repeated runs of up to 256 bytes", || {
        Faults::none().duplicates(1e-4, 256)
    }),
    Preset::new("duplicates", "repeated runs of up to 4,096 bytes", || {
        Faults::none().duplicates(5e-5, 4_096)
    }),
    Preset::new("insert-1", "single bytes from nowhere, one in 2,000", || {
        Faults::none().noise(5e-4, 1)
    }),
    Preset::new("noise", "bursts of up to 64 random bytes", || Faults::none().noise(5e-4, 64)),
    Preset::new("noise-runs", "bursts of up to 4,096 random bytes", || {
        Faults::none().noise(5e-5, 4_096)
    }),
    Preset::new("truncation", "frames that lose their end, at any byte", || {
        Faults::none().drops(1e-3, 64)
    }),
    Preset::new("control", "NUL (BREAK), XON and XOFF in the stream", || {
        Faults::none().controls(1e-3)
    }),
    Preset::new("kernel-log", "kernel messages and login prompts on the same line", || {
        Faults::none().texts(2e-4)
    }),
    Preset::new("stale", "4,096 bytes that mean nothing come first, as from an old buffer", || {
        Faults::none().stale_bytes(4_096)
    }),
    Preset::new("wrong-baud", "ten seconds of garbage, then the right baud rate", || {
        Faults::none().garbled_until(Instant::from_micros(10_000_000))
    }),
    Preset {
        name: "one-byte-a-second",
        about: "a line of 1 byte a second, whatever --baud says",
        bytes_per_second: Some(1),
        build: Faults::none,
    },
    Preset::new("cut", "out for a minute after ten seconds", || {
        Faults::none().cut(Instant::from_micros(10_000_000), Duration::from_secs(60))
    }),
    Preset::new("cut-1s", "out for a second after ten seconds", || {
        Faults::none().cut(Instant::from_micros(10_000_000), Duration::from_secs(1))
    }),
    Preset::new("flaky-cable", "a loose plug, bit errors and lost bytes", || {
        Faults::none()
            .bit_errors(1e-5)
            .drops(1e-4, 16)
            .noise(1e-4, 16)
            .loose(Duration::from_secs(5), Duration::from_millis(300))
    }),
    Preset::new("everything", "all faults of a line at once", || {
        Faults::none()
            .bit_errors(1e-5)
            .drops(2e-5, 256)
            .duplicates(2e-5, 256)
            .noise(2e-5, 256)
            .controls(1e-4)
            .texts(2e-5)
            .stale_bytes(2_000)
            .loose(Duration::from_secs(20), Duration::from_millis(300))
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_found_by_its_name_and_only_clean_is_clean() {
        for preset in PRESETS {
            let faults = Faults::preset(preset.name).unwrap();
            let clean = faults == Faults::none() && preset.bytes_per_second.is_none();
            assert_eq!(clean, preset.name == "clean", "{}", preset.name);
        }
        assert_eq!(Faults::preset("perfect"), None);
    }
}
