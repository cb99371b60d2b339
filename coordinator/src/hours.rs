//! The clock of the week: which agents' schedules keep them from taking tasks now.

use std::collections::BTreeSet;
use std::time::Duration;

use grange_protocol::AgentId;
use grange_scheduler::{Answer, Event};
use jiff::Zoned;

use crate::farm::{FarmHandle, Stopped};

/// How often the clock is looked at. Schedules have minutes.
const EVERY: Duration = Duration::from_secs(10);

/// Looks at the clock until the farm's loop ends.
pub(crate) fn keep(farm: FarmHandle) {
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asleep = BTreeSet::new();
        loop {
            looks.tick().await;
            match look(&farm).await {
                Ok(now) if now == asleep => {}
                Ok(now) => {
                    tracing::info!("{} agents are asleep at this time of the week", now.len());
                    asleep = now;
                }
                Err(Stopped) => return,
            }
        }
    });
}

/// Tells the core who is to sleep now, which this host's local time says.
pub(crate) async fn look(farm: &FarmHandle) -> Result<BTreeSet<AgentId>, Stopped> {
    let now = Zoned::now();
    let day = now.weekday().to_monday_zero_offset().unsigned_abs();
    let minute = u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs());
    let at_rest = farm.look(move |farm| {
        let schedules = farm.core.schedules();
        let resting = schedules.filter(|(_, schedule)| !schedule.contains(day, minute));
        let resting: BTreeSet<AgentId> = resting.map(|(agent, _)| agent).collect();
        (resting != *farm.core.asleep(), resting)
    });
    let (has_changed, resting) = at_rest.await?;
    if has_changed {
        let agents = resting.clone();
        let _: Answer = farm.ask(move |request| Event::Asleep { request, agents }).await?;
    }
    Ok(resting)
}
