"""The wire formats of USSD gateways, one file each."""

from __future__ import annotations

from ussd_edge.gateways import africastalking, airtel, arkesel, hubtel, infobip, korba, mtn, nalo, safaricom, smpp

GATEWAYS = {
    module.GATEWAY.name: module.GATEWAY
    for module in (africastalking, safaricom, hubtel, arkesel, nalo, mtn, infobip, airtel, korba, smpp)
}
