//! `oxend_request`: answered from the view where it says enough, else by the chain daemon.

use cepa_wire::answer::Answer;
use cepa_wire::request::OxendRequest;

use super::{Local, Plan};
use crate::answers;
use crate::oxend::{OxendReply, ServiceNodesQuery};

pub(super) fn plan(request: OxendRequest, local: Local<'_>) -> Plan {
    let OxendRequest { endpoint, params } = request;
    if endpoint == "get_service_nodes" {
        match ServiceNodesQuery::parse(&params) {
            Ok(query) if !local.has_oxend || query.is_in_view() => {
                let result = query.run(local.view.nodes(), 0, local.view.chain());
                return Plan::Answer(answers::oxend(&result, local));
            }
            Err(fault) if !local.has_oxend => return Plan::Answer(Answer::text(400, fault)),
            // The daemon knows more, and tells itself what it does not understand.
            Ok(_) | Err(_) => {}
        }
    }
    if local.has_oxend {
        Plan::Oxend { endpoint, params }
    } else {
        // Names are on the chain, and this node's view comes without one.
        Plan::Answer(Answer::text(400, "Unknown oxend error"))
    }
}

pub(super) fn answer(reply: OxendReply, local: Local<'_>) -> Answer {
    match reply {
        OxendReply::Result(result) => answers::oxend(&result, local),
        OxendReply::Unparsable => Answer::text(502, "oxend returned unparsable data"),
        OxendReply::Refused(text) => Answer::text(400, text),
        OxendReply::NoReply => Answer::text(400, "Unknown oxend error"),
    }
}
