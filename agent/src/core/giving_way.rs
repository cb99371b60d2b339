//! Who gives way when there is less memory than was given: others come and go as they like.

use grange_protocol::LeaseId;
use grange_protocol::agent::{Failure, FailureKind, FromAgent};

use super::Core;
use super::attempt::Stage;
use super::event::InstanceId;
use super::instance::{Activity, Instance};

/// What could not even start if this host were empty is given back after this time.
const HOPELESS_MS: u64 = 20_000;
/// Instances are given up only when memory stays short for so long.
const SHORT_MS: u64 = 2_500;
/// A number of instances that the memory does not allow is given up after this time.
const LACKING_MS: u64 = 5_000;

impl Core {
    /// Where instances need more than others leave: those that keep data stop it with their next
    /// frame, then the idle go, then the youngest. One stays, for what it has is its own.
    pub(super) fn give_way(&mut self, at: u16) {
        let Some(device) = self.devices.get(usize::from(at)) else { return };
        let live: Vec<(InstanceId, Instance)> =
            self.live_on(at).map(|(id, one)| (id, one.clone())).collect();
        let taken: u64 = live.iter().map(|(_, one)| u64::from(one.takes().device_mib)).sum();
        let capacity = device.capacity_mib();
        let used: u64 = live.iter().map(|(_, one)| u64::from(one.now.device_mib)).sum();
        let is_short = taken > capacity && (device.others_mib() > 0 || used > capacity);
        let now = self.now;
        let Some(device) = self.devices.get_mut(usize::from(at)) else { return };
        if !is_short {
            device.short_since = None;
            return;
        }
        let since = *device.short_since.get_or_insert(now);
        let idle = live.iter().filter(|(_, one)| matches!(one.activity, Activity::Idle { .. }));
        let oldest_idle = idle.map(|(id, _)| *id).next();
        let words = if device.others_mib() > 0 {
            format!("others use {} MiB of it", device.others_mib())
        } else {
            format!("its instances take {used} MiB, more than was expected")
        };
        if let Some(id) = oldest_idle {
            self.decide(at, format!("{words}: an idle instance gives way"));
            return self.quit(id);
        }
        let keeps = live.iter().any(|(_, one)| one.kept && !one.pinned);
        let patience = if keeps { 4 * SHORT_MS } else { SHORT_MS };
        if live.len() < 2 || now.since(since) < patience {
            return;
        }
        // A session has more to lose than time, so it goes only where memory is short already, and not
        // for what was set aside before anybody knew what it needs.
        let work = live.iter().rfind(|(_, one)| !self.serves_a_session(one.activity.lease()));
        let last = live.last().filter(|_| used > capacity);
        let Some((id, youngest)) = work.or(last) else { return };
        self.decide(at, format!("{words}: the youngest instance gives way"));
        if let Some(device) = self.devices.get_mut(usize::from(at)) {
            device.short_since = Some(now);
            let fewer = device.tuner().no_more_than(live.len() as u16 - 1);
            if let Some(text) = fewer {
                self.decide(at, text);
            }
        }
        if let Some(lease) = youngest.activity.lease() {
            if self.serves_a_session(Some(lease)) {
                let failure = Failure::new(
                    FailureKind::Other,
                    "the instance had to give way: others took the memory that it needs",
                );
                return self.fail(lease, failure);
            }
            // It has lost nothing but time: another instance begins it anew.
            self.set_stage(lease, Stage::Queued);
        }
        self.kill(*id);
    }

    /// A number of instances that waits for memory in vain is lowered to what there is.
    pub(super) fn give_up_what_has_no_memory(&mut self, at: u16) {
        let live = self.live_on(at).count();
        let waits = self.attempts.values().any(|attempt| {
            attempt.assignment.device == at && attempt.waits_for_memory_since.is_some()
        });
        let now = self.now;
        let Some(device) = self.devices.get_mut(usize::from(at)) else { return };
        if !waits || live == 0 || live >= usize::from(device.count()) {
            device.lacking_since = None;
            return;
        }
        let since = *device.lacking_since.get_or_insert(now);
        if now.since(since) >= LACKING_MS
            && let Some(text) = device.tuner().no_more_than(live as u16)
        {
            self.decide(at, text);
        }
    }

    /// Gives back what could not start here even if nothing of ours ran: at once where nothing
    /// renders any more, else when others have had time to make room.
    pub(super) fn give_back_the_hopeless(&mut self) {
        let hopeless: Vec<LeaseId> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| {
                let since = attempt.waits_for_memory_since;
                let device = self.devices.get(usize::from(attempt.assignment.device));
                since.zip(device).is_some_and(|(since, device)| {
                    device.problem.is_some()
                        || (self.now.since(since) >= HOPELESS_MS
                            && !self.could_ever_start(attempt, device))
                })
            })
            .map(|(lease, _)| *lease)
            .collect();
        if !hopeless.is_empty() {
            for lease in &hopeless {
                self.forget_lessons_for(*lease);
                self.forget(*lease);
            }
            self.tell(FromAgent::Returned(hopeless));
        }
    }

    /// If it comes here again, it is because the coordinator knows better.
    fn forget_lessons_for(&mut self, lease: LeaseId) {
        let Some(attempt) = self.attempts.get(&lease) else { return };
        let at = usize::from(attempt.assignment.device);
        if let (Some(scene), Some(device)) = (attempt.assignment.manifest, self.devices.get_mut(at))
        {
            device.forget(scene);
        }
    }
}
