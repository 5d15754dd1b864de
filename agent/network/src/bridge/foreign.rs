//! Getting along with the host's own firewall.
//!
//! In nftables a packet is dropped as soon as any table drops it; an accept of ours overrides nothing. Docker and ufw let
//! `FORWARD` of the table `filter` drop by default, so containers on our bridge would reach nothing. There we add two rules of our
//! own: in `DOCKER-USER`, the chain that Docker leaves to others and calls first, else at the head of `FORWARD`. Who may reach a
//! container stays the business of our own table, which drops what it does not want.
//!
//! The rules use only what `iptables` can print: with any other expression it calls the whole table incompatible, and Docker,
//! which calls it, fails. They carry a comment, by which they are found again. Other chains that drop are reported only.

use ipnet::Ipv4Net;
use nlink::netlink::nftables::{
    ChainInfo, ChainName, Family, Hook, NFT_MSG_NEWRULE, NFTA_RULE_CHAIN, NFTA_RULE_TABLE,
    NFTA_RULE_USERDATA, Policy, RawMessage, Rule, RuleInfo, write_expressions,
};
use nlink::netlink::{Connection, MessageBuilder, Nftables};

use super::finding::Finding;
use super::step::{StepError, bounded};

/// The table of `iptables` through nftables, of the family `ip`.
const TABLE: &str = "filter";

/// The chain that Docker leaves to the operator.
const DOCKER_USER: &str = "DOCKER-USER";

/// `NLM_F_CREATE` without `NLM_F_APPEND`: the rule becomes the first one.
const AT_THE_HEAD: u16 = 0x400;

/// Where the kernel names the rules of the old kind, if any program ever loaded some in this namespace.
const LEGACY_NAMES: &str = "/proc/thread-self/net/ip_tables_names";

/// What the rules are for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passage<'a> {
    /// The bridge.
    pub(super) bridge: &'a str,
    /// The containers' addresses.
    pub(super) range: Ipv4Net,
}

impl Passage<'_> {
    fn comment(&self) -> String {
        format!("agent mesh {}", self.bridge)
    }

    /// Out of the bridge (and along it), then into it.
    fn rules(&self, chain: &str) -> [Rule; 2] {
        let rule = || Rule::new(TABLE, chain).family(Family::Ip);
        let (range, prefix) = (self.range.network(), self.range.prefix_len());
        [
            rule().match_iif(self.bridge).match_saddr_v4(range, prefix).counter().accept(),
            rule().match_oif(self.bridge).match_daddr_v4(range, prefix).counter().accept(),
        ]
    }
}

/// Lets the bridge's traffic through where `iptables` would drop it.
pub(super) async fn ensure(
    rules: &Connection<Nftables>,
    passage: Passage<'_>,
) -> Result<(), StepError> {
    let chains = chains(rules).await?;
    let named = |name: &str| chains.iter().find(|chain| is_iptables(chain) && chain.name == name);
    if !named("FORWARD").is_some_and(drops) {
        return Ok(());
    }
    let listed = list(rules).await?;
    let calls_docker = |rule: &RuleInfo| {
        let mut names = rule.expression_bytes.windows(DOCKER_USER.len());
        rule.chain == "FORWARD" && names.any(|bytes| bytes == DOCKER_USER.as_bytes())
    };
    // Docker's chain may be left over from a Docker that is gone, and then nobody calls it.
    let docker = named(DOCKER_USER).is_some() && listed.iter().any(calls_docker);
    let chain = if docker { DOCKER_USER } else { "FORWARD" };
    let comment = passage.comment();
    let is_ours = |rule: &&RuleInfo| rule.comment_text.as_deref() == Some(&comment);
    let wanted = passage.rules(chain);
    let ours: Vec<&RuleInfo> = listed.iter().filter(is_ours).collect();
    if ours.len() == wanted.len() && ours.iter().all(|rule| rule.chain == chain) {
        return Ok(());
    }
    let mut batch = rules.transaction();
    for rule in ours {
        batch = batch.del_rule(TABLE, &rule.chain, Family::Ip, rule.handle);
    }
    let attempt = format!("let the bridge {} pass through the chain {chain}", passage.bridge);
    for rule in wanted {
        let message = first_rule(&rule, chain, &comment);
        batch = batch.raw(message.map_err(|error| StepError::refused(attempt.clone(), error))?);
    }
    bounded(attempt, batch.commit(rules)).await
}

/// Removes what [`ensure`] added.
pub(super) async fn remove(
    rules: &Connection<Nftables>,
    passage: Passage<'_>,
) -> Result<(), StepError> {
    if !chains(rules).await?.iter().any(is_iptables) {
        return Ok(());
    }
    let comment = passage.comment();
    for rule in list(rules).await? {
        if rule.comment_text.as_deref() == Some(&comment) {
            let removed = rules.del_rule_if_exists(TABLE, &rule.chain, Family::Ip, rule.handle);
            bounded(format!("remove our rule from the chain {}", rule.chain), removed).await?;
        }
    }
    Ok(())
}

/// What stands in the way and is not ours to change.
pub(super) async fn findings(
    rules: &Connection<Nftables>,
    bridge: &str,
) -> Result<Vec<Finding>, StepError> {
    let mut findings = Vec::new();
    for chain in chains(rules).await?.iter().filter(|chain| drops(chain)) {
        let table = format!("{} {}", chain.family.name(), chain.table);
        let name = chain.name.clone();
        match hook(chain) {
            Some(Hook::Forward) if !is_iptables(chain) => {
                findings.push(Finding::ForwardDrop { table, chain: name });
            }
            Some(Hook::Input) => findings.push(Finding::InputDrop { table, chain: name }),
            _ => {}
        }
    }
    let tables = bounded("list the tables of rules", rules.list_tables()).await?;
    if tables.iter().any(|table| table.name == "firewalld") {
        findings.push(Finding::Firewalld { bridge: bridge.to_owned() });
    }
    // Absent where the kernel has no rules of the old kind.
    let legacy = std::fs::read_to_string(LEGACY_NAMES).unwrap_or_default();
    if legacy.lines().any(|table| table == TABLE) {
        findings.push(Finding::LegacyTables { bridge: bridge.to_owned() });
    }
    Ok(findings)
}

async fn chains(rules: &Connection<Nftables>) -> Result<Vec<ChainInfo>, StepError> {
    bounded("list the chains of rules", rules.list_chains()).await
}

async fn list(rules: &Connection<Nftables>) -> Result<Vec<RuleInfo>, StepError> {
    bounded(format!("list the rules of the table {TABLE}"), rules.list_rules(TABLE, Family::Ip))
        .await
}

fn is_iptables(chain: &ChainInfo) -> bool {
    chain.family == Family::Ip && chain.table == TABLE
}

fn hook(chain: &ChainInfo) -> Option<Hook> {
    chain.kind()?.base().map(nlink::netlink::nftables::BaseChain::hook)
}

fn drops(chain: &ChainInfo) -> bool {
    chain.policy == Some(Policy::Drop.to_u32()) && matches!(chain.family, Family::Ip | Family::Inet)
}

/// The message that makes `rule` the first of `chain`; the library itself only appends.
fn first_rule(rule: &Rule, chain: &str, comment: &str) -> Result<RawMessage, nlink::Error> {
    let expressions = rule.spec().lower(Family::Ip)?;
    let mut attributes = MessageBuilder::new(0, 0);
    let header = attributes.as_bytes().len();
    attributes.append_attr_str(NFTA_RULE_TABLE, TABLE);
    attributes.append_attr_str(NFTA_RULE_CHAIN, ChainName::new(chain)?.as_str());
    write_expressions(&mut attributes, &expressions);
    // As libnftnl writes a comment: kind 0, length, text with its end.
    let length = u8::try_from(comment.len().saturating_add(1)).unwrap_or(u8::MAX);
    let userdata = [&[0, length], comment.as_bytes(), &[0]].concat();
    attributes.append_attr(NFTA_RULE_USERDATA, &userdata);
    let attributes = attributes.as_bytes().get(header..).unwrap_or_default().to_vec();
    Ok(RawMessage::new(NFT_MSG_NEWRULE, Family::Ip).flags(AT_THE_HEAD).attrs(attributes))
}
