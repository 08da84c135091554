//! The frontend's program in one thread: the real carrier, queue, store and CRL mirror, driven as
//! `frontend run` drives them.

use frontend::{
    audit::copy::LogCopy,
    carrier::{Carrier, Work},
    clock::Now,
    crl::mirror::Mirror,
    home::Home,
    queue::Queue,
    store::Store,
};
use protocol::{
    message::{Answer, Message, Request, RequestId},
    session::{Event, FrontendSession, SendError},
    time::Instant,
};

use super::{Held, START_UNIX_S, Violation, failed, micros, oracle::Oracle, sabotage::Sabotage};
use crate::checker::Checker;

/// The webdb's carrier, while it runs.
pub(crate) struct Frontend {
    pub(crate) session: FrontendSession,
    carrier: Carrier,
    /// What a person or a script types at: another process, with a connection of its own.
    desk: Store,
    /// Somebody put something into the queue.
    poked: bool,
}

impl Frontend {
    /// The program starts.
    pub(crate) fn start(home: &Home, session: FrontendSession) -> Result<Self, Violation> {
        let store = home.store().map_err(failed)?;
        let carrier = Carrier::new(store, Mirror::new(home), LogCopy::new(home)).map_err(failed)?;
        Ok(Self { session, carrier, desk: home.store().map_err(failed)?, poked: false })
    }

    /// A person queues requests: all of them are on disk when this returns.
    pub(crate) fn queue(&mut self, requests: &[Request], now: Instant) -> Held {
        let transaction = self.desk.transaction().map_err(failed)?;
        let unix_us = at(now).unix_us;
        for request in requests {
            Queue(&transaction).insert(request, unix_us).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.poked = true;
        Ok(())
    }

    /// When [`Self::turn`] has something to do at the latest.
    pub(crate) fn wake(&self, now: Instant) -> Option<Instant> {
        if self.poked {
            return Some(now);
        }
        let times = [self.session.poll_timeout(), self.carrier.poll_timeout()];
        times.into_iter().flatten().min()
    }

    /// Does all that can be done now.
    pub(crate) fn turn(
        &mut self,
        now: Instant,
        oracle: &mut Oracle,
        arriving: &mut Checker,
        departed: &mut Vec<Request>,
    ) -> Held {
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        let heard = self.hear(now, oracle, arriving)?;
        if std::mem::take(&mut self.poked) {
            self.carrier.handle_queue_changed(at(now)).map_err(failed)?;
        }
        self.carrier.handle_timeout(at(now)).map_err(failed)?;
        while let Some(request) = self.carrier.poll_send(at(now)).map_err(failed)? {
            match self.session.send(now, &request) {
                Ok(()) => departed.push(request),
                Err(SendError::LaneFull { .. } | SendError::NotUp) => {
                    self.carrier.handle_unsent(at(now), request);
                }
                Err(error) => {
                    return Err(Violation::new(format!("a request cannot be sent: {error}")));
                }
            }
        }
        for id in heard {
            oracle.look_at(self.store(), id)?;
        }
        Ok(())
    }

    /// Takes what the session has; says which requests got an answer.
    fn hear(
        &mut self,
        now: Instant,
        oracle: &mut Oracle,
        arriving: &mut Checker,
    ) -> Result<Vec<RequestId>, Violation> {
        let mut heard = Vec::new();
        let mut answers: Vec<Answer> = Vec::new();
        let mut events = Vec::new();
        while let Some(event) = self.session.poll_event() {
            events.push(event);
        }
        oracle.sabotage.reorder(&mut events);
        for event in events {
            if let Event::Message(answer) = event {
                arriving.received(&answer)?;
                if oracle.sabotage.strikes(Sabotage::DeliversTwice) {
                    arriving.received(&answer)?;
                }
                heard.extend(answer.request_id());
                answers.push(answer);
                continue;
            }
            self.take(now, std::mem::take(&mut answers))?;
            match event {
                Event::Up => {
                    arriving.up()?;
                    self.carrier.handle_up(at(now)).map_err(failed)?;
                }
                Event::Down { .. } => {
                    arriving.down()?;
                    self.carrier.handle_down();
                }
                Event::Incompatible { theirs } => oracle.check(
                    oracle.meddled,
                    &format!("the frontend finds {theirs:?} incompatible"),
                )?,
                Event::Undecodable { lane, error } => {
                    return Err(Violation::new(format!("no message on lane {lane:?}: {error}")));
                }
                // News for the operator; a message was taken above.
                Event::Message(_) | Event::Occupied | Event::Refused { .. } => {}
            }
        }
        self.take(now, answers)?;
        Ok(heard)
    }

    fn take(&mut self, now: Instant, answers: Vec<Answer>) -> Held {
        match answers.is_empty() {
            true => Ok(()),
            false => self.carrier.handle_answers(at(now), answers).map_err(failed),
        }
    }

    /// Past queue and carrier: what a program could send that breaks the rules of both.
    pub(crate) fn send_raw(&mut self, now: Instant, request: &Request) -> bool {
        self.session.send(now, request).is_ok()
    }

    /// What the carrier itself says of its work.
    pub(crate) fn work(&self, now: Instant) -> Work {
        self.carrier.work(at(now))
    }

    pub(crate) fn store(&self) -> &Store {
        self.carrier.store()
    }
}

/// The webdb's clocks.
fn at(now: Instant) -> Now {
    let unix_us = START_UNIX_S * 1_000_000 + micros(now);
    Now { instant: now, unix_us, synchronised: true }
}
