// The wire formats of the gateways, as each would speak for one phone. A session: {id, msisdn, code, tail, inputs, state}.
// `call` makes the request for what was typed (null = dialled), `read` takes the answer apart.

const json = (path, content, method = "POST") => [
  path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(content) },
];
const dialled = (s) => `*${s.code}${s.tail ? `*${s.tail}` : ""}#`;
const whole = (s) => [...(s.tail ? s.tail.split("*") : []), ...s.inputs].join("*");
const conOrEnd = async (answer) => {
  const text = await answer.text();
  return { text: text.slice(4), ends: text.startsWith("END") };
};

export const GATEWAYS = {
  africastalking: {
    label: "Africa's Talking",
    call: (s) => ["/ussd/africastalking", {
      method: "POST",
      body: new URLSearchParams({
        sessionId: s.id, serviceCode: `*${s.code}#`, phoneNumber: `+${s.msisdn}`, networkCode: "99999", text: whole(s),
      }),
    }],
    read: conOrEnd,
  },
  safaricom: {
    label: "Safaricom",
    call: (s) => {
      const [first, ...rest] = s.code.split("*");
      const params = [...rest, ...(whole(s) ? [whole(s)] : [])].join("*");
      const query = new URLSearchParams({ ORIG: s.msisdn, DEST: first, SESSION_ID: s.id, USSD_PARAMS: params });
      return [`/ussd/safaricom?${query}`, {}];
    },
    read: conOrEnd,
  },
  hubtel: {
    label: "Hubtel",
    call: (s, typed) => json("/ussd/hubtel", {
      Type: typed === null ? "Initiation" : "Response", Mobile: s.msisdn, SessionId: s.id, ServiceCode: s.code,
      Message: typed ?? dialled(s), Operator: "mtn", Sequence: s.inputs.length + 1, ClientState: s.state, Platform: "USSD",
    }),
    read: async (answer, s) => {
      const content = await answer.json();
      s.state = content.ClientState;
      return { text: content.Message, ends: content.Type === "Release" };
    },
  },
  arkesel: {
    label: "Arkesel",
    call: (s, typed) => json("/ussd/arkesel", {
      sessionID: s.id, userID: "KIBUBU", newSession: typed === null, msisdn: s.msisdn, userData: typed ?? dialled(s),
      network: "MTN",
    }),
    read: async (answer) => {
      const content = await answer.json();
      return { text: content.message, ends: !content.continueSession };
    },
  },
  nalo: {
    label: "Nalo",
    call: (s, typed) => json("/ussd/nalo", {
      USERID: "KIBUBU", MSISDN: s.msisdn, USERDATA: typed ?? dialled(s).replaceAll("#", ""), MSGTYPE: typed === null,
      NETWORK: "MTN", SESSIONID: s.id,
    }),
    read: async (answer) => {
      const content = await answer.json();
      return { text: content.MSG, ends: !content.MSGTYPE };
    },
  },
  mtn: {
    label: "MTN MADAPI",
    call: (s, typed) => json("/ussd/mtn/messages/ussd/inbound", {
      sessionId: s.id, messageType: typed === null ? "0" : "1", msisdn: s.msisdn, serviceCode: `*${s.code}#`,
      ussdString: typed ?? dialled(s),
    }),
    read: async (answer) => {
      const { data } = await answer.json();
      return { text: data.inboundResponse, ends: !data.userInputRequired };
    },
  },
  infobip: {
    label: "Infobip",
    call: (s, typed) => json(`/ussd/infobip/session/${s.id}/${typed === null ? "start" : "response"}`, {
      msisdn: s.msisdn, imsi: "0", text: typed ?? dialled(s), shortCode: `*${s.code}#`, language: "en", ussdGwId: "phone",
    }),
    read: async (answer) => {
      const content = await answer.json();
      return { text: content.ussdMenu, ends: content.shouldClose };
    },
  },
  airtel: {
    label: "Airtel (Flares)",
    call: (s, typed) => {
      const first = s.tail ? `${s.code}*${s.tail}` : s.code.replaceAll("*", "");
      const query = new URLSearchParams({ SessionID: s.id, MSISDN: s.msisdn, MSC: "0", input: typed ?? first });
      return [`/ussd/airtel?${query}`, {}];
    },
    read: async (answer) => ({ text: await answer.text(), ends: answer.headers.get("Freeflow") === "FB" }),
  },
  korba: {
    label: "Korba",
    call: (s, typed) => json("/ussd/korba", {
      sessionID: s.id, msisdn: s.msisdn, network: "01", ussdString: typed ?? dialled(s),
      ussdServiceOp: typed === null ? 1 : 18,
    }),
    read: async (answer) => {
      const content = await answer.json();
      return { text: content.message, ends: content.ussdServiceOp === 17 };
    },
  },
  smpp: {
    label: "SMPP",
    call: (s, typed) => json("/ussd/smpp", {
      session: s.id, msisdn: s.msisdn, code: s.code, text: typed ?? dialled(s), op: typed === null ? 1 : 18,
    }),
    read: async (answer) => {
      const content = await answer.json();
      return { text: content.text, ends: content.ends };
    },
  },
};
