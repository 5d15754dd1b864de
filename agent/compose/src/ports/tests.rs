//! The short form of ports.

use proptest::prelude::*;

use super::short;

proptest! {
    #[test]
    fn a_pair_of_ports_is_read(published in 1_u16.., target in 1_u16..) {
        let ports = short(&format!("{published}:{target}")).unwrap();
        prop_assert_eq!(ports.len(), 1);
        prop_assert_eq!((ports[0].published, ports[0].target), (published, target));
    }

    #[test]
    fn ranges_pair_their_ports_in_order(published in 1_u16..60_000, target in 1_u16..60_000, more in 0_u16..128) {
        let text = format!("{published}-{}:{target}-{}/tcp", published + more, target + more);
        let ports = short(&text).unwrap();
        prop_assert_eq!(ports.len(), usize::from(more) + 1);
        for (port, n) in ports.iter().zip(0..) {
            prop_assert_eq!((port.published, port.target), (published + n, target + n));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9:/.a-z\\[\\] -]{0,30}") {
        drop(short(&text));
    }
}
