// What the service answers, as far as it is used here; openapi.yaml says all of it.

export interface Task {
  task_id: string;
  enterprise: { name: string };
  place: { registered_address: string; lon: number; lat: number; frame: string };
  opens_at: string;
  closes_at: string;
  state: string;
  own_state: string;
  attempts_left: number;
  next: string;
  next_text: string;
  accepted_at?: string;
  method?: string;
  check_in_id?: string;
}

export interface Me {
  person_id: string;
  consent: { given: boolean; scopes: string[] };
  tasks: Task[];
}

export interface Notice {
  notice_version: string;
  text: string;
  scopes: string[];
}

export interface Challenge {
  challenge_id: string;
  expires_at: string;
  actions: string[];
  liveness?: { provider: string; verify_id?: string };
}

export interface Reason {
  code: string;
  message: string;
  advice: string;
}

export interface CheckIn {
  check_in_id: string;
  outcome: "accepted" | "rejected" | "review" | "pending";
  reasons?: Reason[];
  received_at: string;
  attempts_left?: number;
  receipt?: string;
  status_url?: string;
}

export interface ManualRequest {
  manual_request_id: string;
  received_at: string;
}
