//! The end of a run: everything is made good, and then everything must be answered and published.

use std::os::unix::fs::MetadataExt;

use ::signer::authority::Layout;
use frontend::{
    carrier::Work,
    crl::{CrlName, list, mirror::Mirror},
};
use protocol::message::CrlScope;

use super::{
    super::failed, Duration, Faults, HEALING_MAX, Held, ISSUING, LOOKED_AT_WITHIN, Oracle, Random,
    Signer, Violation, World, material,
};

/// The store check reads every file; so many runs end with it.
const CHECKED_IN_FULL: f64 = 0.1;

impl World {
    /// Everything is made good, and then everything must be answered.
    pub(crate) fn finish(&mut self) -> Held {
        self.adversary = None;
        self.restore_cable();
        self.set_faults(&Faults::none(), &mut Random::new(0));
        self.clock = Duration::ZERO;
        self.start_signer()?;
        self.start_frontend()?;
        let answered_by = self.now + HEALING_MAX;
        let end = answered_by + LOOKED_AT_WITHIN;
        while !self.is_done()? {
            let late = self.now >= answered_by && !self.oracle.all_finished();
            if late || self.now >= end {
                return Err(Violation::new(self.what_is_left()));
            }
            self.step(end)?;
        }
        let Some(frontend) = &self.frontend else { return Ok(()) };
        self.oracle.final_checks(frontend.store())?;
        self.check_published()?;
        if self.random.chance(CHECKED_IN_FULL) {
            self.stop_frontend(false)?;
            self.stop_signer(false)?;
            Oracle::check_files(&self.scratch.path("signer"))?;
        }
        Ok(())
    }

    fn is_done(&mut self) -> Result<bool, Violation> {
        let now = self.now;
        let Some(frontend) = &self.frontend else { return Ok(false) };
        // A restored signer forgot revocations and log entries: the frontend has its doubts.
        let work = frontend.work(now);
        let idle = self.oracle.all_finished()
            && (work == Work::Idle || work == Work::Doubtful && self.oracle.restored);
        if !idle || !self.signer.as_ref().is_some_and(Signer::is_up) {
            return Ok(false);
        }
        self.look_at_published()?;
        let mut scopes = self.kind.scopes().iter();
        let newest = scopes.all(|scope| self.oracle.is_newest_published(*scope));
        Ok(self.oracle.lost_revocations || newest)
    }

    fn what_is_left(&self) -> String {
        let up = |up| if up { "up" } else { "down" };
        let signer = self.signer.as_ref().is_some_and(Signer::is_up);
        let frontend = self.frontend.as_ref();
        format!(
            "I2: not everything is answered {HEALING_MAX:?} after the last fault: {:?}; the \
             frontend is {} ({:?}), the signer {}; CRL {} of {}",
            self.oracle.unfinished(),
            up(frontend.is_some_and(|frontend| frontend.session.is_up())),
            frontend.map(|frontend| frontend.work(self.now)),
            up(signer),
            self.oracle.published_number(),
            self.oracle.crl_number(CrlScope::Full),
        )
    }

    /// Shows the oracle the CRLs that the frontend publishes, where they are other files than
    /// before.
    pub(super) fn look_at_published(&mut self) -> Held {
        let mirror = Mirror::new(&self.home);
        for scope in self.kind.scopes() {
            let name = CrlName::new(&material::name(ISSUING), *scope);
            let Ok(file) = std::fs::metadata(mirror.crl_path(&name)) else { continue };
            if self.published.insert(*scope, file.ino()) == Some(file.ino()) {
                continue;
            }
            if let Some(bytes) = mirror.read(&name).map_err(failed)? {
                let facts = list::inspect(&bytes).map_err(failed)?;
                self.oracle.published(*scope, facts.number, facts.digest)?;
            }
        }
        Ok(())
    }

    /// Invariants I8 and I10 at the end: byte for byte the signer's, of every scope, with all that
    /// was acknowledged.
    fn check_published(&mut self) -> Held {
        if self.oracle.lost_revocations {
            return Ok(());
        }
        self.look_at_published()?;
        if let Some(signer) = &self.signer {
            signer.note_crls(&mut self.oracle)?;
        }
        let mirror = Mirror::new(&self.home);
        let authority = material::name(ISSUING);
        let theirs = Layout::new(&self.scratch.path("signer"), &authority);
        for scope in self.kind.scopes() {
            let name = CrlName::new(&authority, *scope);
            let ours = mirror.read(&name).map_err(failed)?;
            let Some(ours) = ours else {
                return Err(Violation::new("I10: the frontend publishes no CRL"));
            };
            let same = !self.oracle.is_published_newest(*scope)
                || std::fs::read(theirs.newest_crl(*scope))? == ours;
            self.oracle.check(same, "I10: the frontend's CRL is not the signer's")?;
        }
        self.oracle.check_newest_crls()
    }
}
