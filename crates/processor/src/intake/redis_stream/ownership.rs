//! Whether what we hold is still ours.
//!
//! An entry that was not touched for the claim time may be taken over by another instance. An instance refreshes what it
//! holds long before; but a process can be frozen, or Redis away for it alone, and the group may be made again. So whatever
//! was not known to be ours for half the claim time is asked about before its row is inserted. What is another's is left to
//! it, the acknowledgement included. What is no consumer's any more has been acknowledged, or is not in the stream of a
//! server that was put back to an older copy, and will never be given out again: its row is looked up.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;
use stream_reply::StreamId;

use crate::event::Source;
use crate::runtime::moment::Moment;
use crate::stores::{Redis, StoreError, script};

use crate::intake::ledger::{Given, Ledger};

use super::{GROUP, name};

/// Ids asked about in one command.
const IDS_PER_COMMAND: usize = 500;

const DURING: &str = "asking whether entries are still ours";

/// Refreshes the entries that are pending for a consumer, and returns the others: those that are another consumer's or about
/// to be given out again, and those that no consumer has. `JUSTID` leaves the delivery count alone: this is the same delivery.
const REFRESH: &str = r"#!lua flags=allow-oom
local function padded(id)
  local ms, seq = id:match('^(%d+)-(%d+)$')
  return ('0'):rep(20 - #ms) .. ms .. '-' .. ('0'):rep(20 - #seq) .. seq
end
local last
local ours, theirs, nobodys = {}, {}, {}
for i = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
  if pending and pending[2] == ARGV[2] then
    ours[#ours + 1] = ARGV[i]
  elseif pending then
    theirs[#theirs + 1] = ARGV[i]
  else
    if not last then
      for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
        local g = {}
        for f = 1, #fields, 2 do g[fields[f]] = fields[f + 1] end
        if g['name'] == ARGV[1] then last = padded(g['last-delivered-id']) end
      end
    end
    -- What an older copy of the server does not hold will never be given out.
    local will_come = last < padded(ARGV[i]) and #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i], 'COUNT', 1) > 0
    local list = will_come and theirs or nobodys
    list[#list + 1] = ARGV[i]
  end
end
if #ours > 0 then
  for _, option in ipairs({'IDLE', '0', 'JUSTID'}) do ours[#ours + 1] = option end
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ours))
end
return {theirs, nobodys}";

/// Asks and refreshes. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Ownership {
    /// Shared connection.
    pub redis: Redis,
    /// Stream names, in the ledger's order.
    pub streams: Arc<[String]>,
    /// Our name in the group.
    pub consumer: String,
    /// What tells us from other processes of that name.
    pub token: String,
    /// What we hold.
    pub ledger: Arc<Ledger>,
    /// After this long without a sign of ours others may take an entry over.
    pub claim_idle: Duration,
}

/// What of some entries is not plainly ours.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    /// Another's: to be left alone.
    pub theirs: FxHashSet<Source>,
    /// No consumer's: acknowledged, perhaps.
    pub nobodys: Vec<Source>,
    /// Doubts there were when this was asked.
    doubts: u64,
}

impl Ownership {
    /// Whether some of these have to be asked about, or are another's.
    pub(crate) fn is_doubtful(&self, sources: impl Iterator<Item = Source>) -> bool {
        self.ledger.is_doubtful(sources, self.claim_idle / 2)
    }

    /// Asks about those that have to be asked about. What was found to be another's before is among the answers.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses, for instance while there is no group.
    pub(crate) async fn ask(&self, sources: &[Source]) -> Result<Foreign, StoreError> {
        let all = sources.iter().copied();
        let doubtful = self.ledger.unconfirmed_among(all, self.claim_idle / 2);
        let mut foreign = Foreign {
            doubts: self.ledger.doubts(),
            ..Foreign::default()
        };
        for index in 0..self.streams.len() {
            let index = index as u16;
            let of_stream = doubtful.iter().filter(|source| source.stream == index);
            let of_stream: Vec<Source> = of_stream.copied().collect();
            let ids: Vec<StreamId> = of_stream.iter().map(|source| source.id).collect();
            let nobodys: FxHashSet<StreamId> = self.refresh(index, &ids).await?.into_iter().collect();
            let nobodys = of_stream.iter().filter(|source| nobodys.contains(&source.id));
            foreign.nobodys.extend(nobodys);
        }
        foreign.theirs.extend(self.ledger.lost_among(sources));
        Ok(foreign)
    }

    /// Refreshes entries of one stream. Notes which are ours and which are another's; returns those that are no consumer's.
    pub(super) async fn refresh(&self, index: u16, ids: &[StreamId]) -> Result<Vec<StreamId>, StoreError> {
        let stream = &self.streams[index as usize];
        let mut all_nobodys = Vec::new();
        for ids in ids.chunks(IDS_PER_COMMAND) {
            let given = self.ledger.given_from_now();
            let texts: Vec<String> = ids.iter().map(StreamId::to_string).collect();
            let mut command = script(REFRESH, &[stream]);
            command.arg(GROUP).arg(&self.consumer).arg(&texts);
            let (mut theirs, nobodys): (Vec<String>, Vec<String>) = self.redis.ask(DURING, &command).await?;
            // A name that was taken never comes back: one that is ours now was so when its entries were looked at.
            if !self.has_name().await? {
                theirs = texts.into_iter().filter(|id| !nobodys.contains(id)).collect();
            }
            let parsed = |texts: &[String]| -> Vec<StreamId> {
                texts.iter().filter_map(|id| id.parse().ok()).collect()
            };
            let (theirs, nobodys) = (parsed(&theirs), parsed(&nobodys));
            if !theirs.is_empty() {
                tracing::warn!(
                    stream, entries = theirs.len(), first = %theirs[0],
                    "entries that were held for long belong to another instance now: they are left to it"
                );
            }
            let not_ours: FxHashSet<StreamId> = theirs.iter().chain(&nobodys).copied().collect();
            let ours = ids.iter().copied().filter(|id| !not_ours.contains(id));
            self.ledger.confirm(index, ours, given);
            self.ledger.lose(index, theirs);
            all_nobodys.extend(nobodys);
        }
        Ok(all_nobodys)
    }

    /// Whether no other process has noted our consumer's name. Its note may be elsewhere in a cluster than a stream.
    async fn has_name(&self) -> Result<bool, StoreError> {
        let mut noted = redis::cmd("GET");
        noted.arg(name::key(&self.consumer));
        let noted: Option<String> = self.redis.ask(DURING, &noted).await?;
        Ok(noted.is_none_or(|noted| name::is_of(&noted, &self.token)))
    }

    /// What was no consumer's has been looked up at this moment: for now it is as good as ours, unless one may have been
    /// given it since it was asked about.
    pub(crate) fn looked_up(&self, foreign: &Foreign, at: Moment) {
        let doubts = foreign.doubts;
        for source in &foreign.nobodys {
            self.ledger
                .confirm(source.stream, [source.id], Given { at, doubts });
        }
    }
}
