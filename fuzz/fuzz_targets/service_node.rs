//! Arbitrary JSON as a node in each of its forms.
#![no_main]

use cepa_wire::ServiceNode;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return };
    if let Ok(node) = ServiceNode::from_network_json(&value) {
        assert_eq!(ServiceNode::from_network_json(&node.to_network_json()).as_ref(), Ok(&node));
    }
    if let Ok(node) = ServiceNode::from_oxend_json(&value) {
        let written = Value::Object(node.to_oxend_json());
        assert_eq!(ServiceNode::from_oxend_json(&written), Ok(node));
    }
    if let Ok(node) = ServiceNode::from_swarm_json(&value) {
        let written = serde_json::from_slice(&node.to_swarm_tree().to_json()).expect("JSON");
        assert_eq!(ServiceNode::from_swarm_json(&written), Ok(node));
    }
});
