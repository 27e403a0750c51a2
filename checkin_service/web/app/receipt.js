// Receipts, as whoever is shown one can check them: signed by a key that the service publishes.

const TYPE = "checkin-receipt+jwt";
const CURVE = { name: "ECDSA", namedCurve: "P-256" };

/** The claims of a genuine receipt, or null. `keys`: the published JSON Web Key Set. */
export async function verifyReceipt(receipt, keys) {
  try {
    const [head, claims, signature] = receipt.trim().split(".");
    const { kid, typ, alg } = JSON.parse(new TextDecoder().decode(bytesOf(head)));
    const found = keys.keys.find((key) => key.kid === kid);
    if (!found || typ !== TYPE || alg !== "ES256") return null;
    const key = await crypto.subtle.importKey("jwk", found, CURVE, false, ["verify"]);
    const signed = new TextEncoder().encode(`${head}.${claims}`);
    const genuine = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, bytesOf(signature), signed);
    return genuine ? JSON.parse(new TextDecoder().decode(bytesOf(claims))) : null;
  } catch {
    return null;
  }
}

/** The link under which others see whether it is genuine; what stands after the # reaches no server. */
export function receiptLink(receipt) {
  return `${location.origin}/app/#receipt=${receipt}`;
}

function bytesOf(base64url) {
  return Uint8Array.from(atob(base64url.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
}
